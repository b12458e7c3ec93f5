import json

import numpy as np
import pytest

import engine
from engine.errors import BadUsage, CannotWrite
from tests.engine.tiny import voxels


def test_a_path_with_an_output_gives_what_the_command_writes(trained, phantom_file, tmp_path):
    place = tmp_path / "out.nii.gz"
    result = engine.denoise(
        phantom_file, model=trained, output=place, preview=tmp_path / "a.png",
        save_residual=True, quiet=True,
    )  # fmt: skip
    names = {path.name for path in tmp_path.iterdir()} - {phantom_file.name}
    assert names == {"out.nii.gz", "out.json", "out_residual.nii.gz", "a.png"}
    assert result.output == place
    assert result.facts == json.loads((tmp_path / "out.json").read_text())
    np.testing.assert_array_equal(result.hu, voxels(place))
    np.testing.assert_array_equal(result.residual_hu, voxels(phantom_file) - result.hu)
    assert result.figure.png == (tmp_path / "a.png").read_bytes()
    with pytest.raises(CannotWrite, match="exists"):
        engine.denoise(phantom_file, model=trained, output=place, quiet=True)
    engine.denoise(phantom_file, model=trained, output=place, overwrite=True, quiet=True)


def test_without_an_output_nothing_is_written(trained, phantom_file, tmp_path, capfd):
    result = engine.denoise(str(phantom_file), model=trained)
    assert [*tmp_path.iterdir()] == [phantom_file]
    assert result.output.shape == voxels(phantom_file).shape
    assert capfd.readouterr().out == ""
    assert result.figure._repr_png_().startswith(b"\x89PNG")
    result.figure.save(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes() == result.figure.png


def test_a_scan_that_was_denoised_already_is_told_with_and_without_an_output(
    trained, phantom_file, tmp_path, capfd
):
    given = {"model": trained, "quiet": True}
    once = engine.denoise(phantom_file, output=tmp_path / "once.nii.gz", **given).output
    capfd.readouterr()
    twice = engine.denoise(once, **given)
    assert "was denoised already, as its sidecar says" in capfd.readouterr().err
    written = engine.denoise(once, output=tmp_path / "twice.nii.gz", **given)
    assert twice.warnings == written.warnings
    assert "was denoised already, as its sidecar says" in twice.warnings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preview": "a.png"}, "preview: has no effect without an output"),
        ({"overwrite": True}, "overwrite: has no effect without an output"),
        ({"output": "b.nii", "spacing_mm": (1, 1, 1)}, "spacing_mm: is given, but"),
    ],
)
def test_options_that_do_nothing_are_refused(trained, phantom_file, options, words):
    with pytest.raises(BadUsage) as refused:
        engine.denoise(phantom_file, model=trained, **options)
    assert str(refused.value).startswith(words)


def test_an_array_has_no_output_file(trained, phantom_hu, tmp_path):
    with pytest.raises(BadUsage, match="output: is named, but the scan is no file"):
        engine.denoise(phantom_hu, model=trained, output=tmp_path / "a.nii")


def test_a_folder_is_left_to_the_command(trained, tmp_path):
    with pytest.raises(BadUsage, match="is a folder"):
        engine.denoise(tmp_path, model=trained, output=tmp_path / "out")
