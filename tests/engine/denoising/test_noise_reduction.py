"""The noise before and after is told, and a network for other noise is doubted."""

import json

import numpy as np
import pytest

from engine.denoising.noise_reduction import NoiseReduction
from tests.engine.tiny import tiny
from volumes import nifti, random_draws
from volumes.phantoms.abdomen import abdomen

SPACING_MM = (3.0, 1.2, 1.2)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A phantom with white noise of 70 HU."""
    path = tmp_path_factory.mktemp("noise") / "noisy.nii.gz"
    hu, _ = abdomen((2, 256, 256), rng=random_draws.rng(0, "phantom", 3), spacing_mm=SPACING_MM)
    noise = 70 * random_draws.rng(0, "noise").standard_normal(hu.shape)
    nifti.write_hu(path, np.rint(hu + noise).astype(np.int16), SPACING_MM)
    return path


def test_the_terminal_and_the_sidecar_tell_how_much_noise_is_left(engine, noisy, tmp_path):
    code, _, err = engine("denoise", noisy, "-o", tmp_path / "less.nii.gz")
    assert code == 0
    found = json.loads((tmp_path / "less.json").read_text())["noise_hu"]
    assert found["tissue"] == "soft_tissue"
    assert found["before"] == pytest.approx(70, rel=0.1)
    assert found["after"] < 20
    assert f"noise of soft tissue {found['before']:.3g} HU before, " in err


@pytest.mark.parametrize(
    ("before_hu", "doubted"), [(60, True), (75, False), (140, False), (270, False), (290, True)]
)
def test_a_network_that_learned_other_noise_is_doubted(before_hu, doubted):
    words = NoiseReduction("fat", before_hu, None).doubt(tiny("unet3d", "noise.sigma=0.1"))
    assert (f"noise of {before_hu} HU" in words and "140 HU" in words) is doubted
    assert bool(words) is doubted


def test_noise_of_unknown_strength_gives_no_doubt():
    recipe = tiny("cnn4")
    assert not NoiseReduction("fat", 500.0, None).doubt(recipe)
