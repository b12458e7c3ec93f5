"""The network that ships is chosen by the noise of each scan."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.denoising.network_choice import LEAST_NOISE_HU, SCANNER, WHITE, choose_network
from engine.denoising.sidecar import origin
from engine.recipe.shipped_networks import shipped_names
from engine.runs.run import named_run
from engine.runs.trained_model import open_model
from engine.scoring.scan_noise import MOST_UNEVEN_WHITE
from volumes import nifti, random_draws
from volumes.nifti.read_options import STRICT
from volumes.phantoms.abdomen import abdomen
from volumes.sampling.noise_spectrum import Spectrum, slice_noise

SPACING_MM = (3.0, 1.2, 1.2)
SHAPE = (2, 256, 256)


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """A phantom with white noise, with that of a kernel, and with hardly any."""
    folder = tmp_path_factory.mktemp("noise")
    rng = random_draws.rng(0, "test of the choice of a network")
    clean, _ = abdomen(SHAPE, rng=random_draws.rng(0, "phantom", 3), spacing_mm=SPACING_MM)
    kernel = np.stack([slice_noise(SHAPE[1:], Spectrum(0.6, 0.25), rng) for _ in range(SHAPE[0])])
    white = rng.standard_normal(SHAPE)
    for name, noise_hu in (("white", 70 * white), ("kernel", 70 * kernel), ("weak", 0 * white)):
        nifti.write_hu(
            folder / f"{name}.nii.gz", np.rint(clean + noise_hu).astype(np.int16), SPACING_MM
        )
    return folder


def chosen(path: Path):
    return choose_network(nifti.open_scan(path, STRICT))


def test_white_noise_gets_the_network_that_learned_white_noise(scans):
    assert chosen(scans / "white.nii.gz").network == WHITE
    assert chosen(scans / "kernel.nii.gz").network == SCANNER


def test_a_simulated_low_dose_gets_the_network_for_scanners(engine, scans, tmp_path):
    low = tmp_path / "low.nii.gz"
    assert engine("degrade", scans / "weak.nii.gz", "--as", "low_dose:1e5", "-o", low)[0] == 0
    assert chosen(low).network == SCANNER


def test_the_choice_tells_the_figures_that_it_rests_on(scans):
    words = str(chosen(scans / "kernel.nii.gz"))
    assert words.startswith("ct_denoiser: the noise is coloured (spectrum uneven by ")
    about = chosen(scans / "white.nii.gz").about()
    assert about["noise_hu"] == pytest.approx(70, rel=0.1)
    assert 1 <= about["unevenness"] <= MOST_UNEVEN_WHITE


def test_a_scan_whose_noise_cannot_be_measured_gets_the_network_for_scanners(tmp_path):
    path = tmp_path / "small.nii.gz"
    hu = random_draws.rng(0, "small").normal(0, 100, (1, 8, 8))
    nifti.write_hu(path, np.rint(hu).astype(np.int16), SPACING_MM)
    choice = chosen(path)
    assert (choice.network, choice.noise_hu, choice.helps) == (SCANNER, None, True)
    assert "could not be measured" in str(choice)


def test_the_networks_to_choose_from_ship_and_cut_a_scan_into_the_same_tiles():
    assert {WHITE, SCANNER} <= set(shipped_names())
    one, other = (open_model(named_run(name)) for name in (WHITE, SCANNER))
    for part in ("window", "prior"):
        assert getattr(one.recipe, part) == getattr(other.recipe, part)
    for part in ("stride", "radius", "bytes_per_voxel", "sees_dose"):
        assert getattr(one.recipe.network, part) == getattr(other.recipe.network, part)
    assert one.sha256 != other.sha256


def test_each_scan_of_a_command_gets_its_own_network(engine, scans, tmp_path):
    out = tmp_path / "out"
    words = ("denoise", scans / "white.nii.gz", scans / "kernel.nii.gz", "-o", out)
    assert engine(*words, "-q")[0] == 0
    for name, network in (("white", WHITE), ("kernel", SCANNER)):
        said = json.loads((out / f"{name}_denoised.json").read_text())
        assert said["network_choice"]["network"] == network
        assert said["model"] == origin(open_model(named_run(network)))["model"]


def test_what_was_chosen_before_is_kept_and_what_was_named_is_not(engine, scans, tmp_path):
    out = tmp_path / "out"
    words = ("denoise", scans / "white.nii.gz", scans / "weak.nii.gz", "-o", out)
    assert engine(*words, "-q")[0] == 0
    code, _, err = engine(*words)
    assert code == 0
    assert "0 done, 2 kept" in err
    code, _, err = engine(*words, "-m", WHITE, "-q")
    assert code == 4
    assert "made by another model" in err


def test_a_scan_with_hardly_any_noise_is_returned_with_a_word(engine, scans, tmp_path):
    source, output = scans / "weak.nii.gz", tmp_path / "same.nii.gz"
    code, _, err = engine("denoise", source, "-o", output)
    assert code == 0
    assert f"is below {LEAST_NOISE_HU:g} HU" in err
    before, after = (nifti.open_scan(path, STRICT).read() for path in (source, output))
    np.testing.assert_array_equal(before, after)
    assert "returned as it is" in json.loads((tmp_path / "same.json").read_text())["warnings"][0]
    assert engine("denoise", source, "-o", tmp_path / "other.nii.gz", "-m", SCANNER)[0] == 0
    assert (nifti.open_scan(tmp_path / "other.nii.gz", STRICT).read() != before).any()


def test_python_chooses_as_the_command_does(engine, cpu, scans, tmp_path):
    from engine import denoise

    source, output = scans / "white.nii.gz", tmp_path / "white.nii.gz"
    assert engine("denoise", source, "-o", output, "-q")[0] == 0
    found = denoise(source, quiet=True)
    np.testing.assert_array_equal(
        np.asarray(found.output.dataobj), nifti.open_scan(output, STRICT).read()
    )
    said = json.loads((tmp_path / "white.json").read_text())
    assert found.facts["network_choice"] == said["network_choice"]


def test_a_copy_of_the_weights_gives_the_same_voxels(engine, scans, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(named_run(SCANNER).folder, copy)
    for name, model in (("one", SCANNER), ("two", copy)):
        words = ("denoise", scans / "kernel.nii.gz", "-m", model, "-q")
        assert engine(*words, "-o", tmp_path / f"{name}.nii.gz")[0] == 0
    one, two = (nifti.open_scan(tmp_path / f"{n}.nii.gz", STRICT).read() for n in ("one", "two"))
    np.testing.assert_array_equal(one, two)
