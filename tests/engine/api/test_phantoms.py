import numpy as np
import pytest

import engine
from engine.errors import CannotWrite
from tests.engine.tiny import voxels


def test_phantoms_are_those_of_the_command(request, tmp_path):
    folder = engine.phantom(tmp_path / "ours", cases=2, shape=(4, 32, 32), seed=3)
    command = request.getfixturevalue("engine")
    command("phantom", tmp_path / "theirs", "--cases", "2", "--shape", "4,32,32", "--seed", "3")
    for name in ("case_00000", "case_00001"):
        one, other = (tmp_path / each / name / "imaging.nii.gz" for each in ("ours", "theirs"))
        np.testing.assert_array_equal(voxels(one), voxels(other))
    with pytest.raises(CannotWrite, match="exists"):
        engine.phantom(folder, cases=1, shape=(4, 32, 32))
