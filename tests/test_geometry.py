"""The unit of length and the named axes of a scan, from its file to the results of commands."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.engine.tiny import shrinking
from volumes.dataset import find_cases
from volumes.dataset.store import Store
from volumes.nifti import open_scan, write_hu
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.phantoms.abdomen import abdomen

WEIGHTS = Path(__file__).parents[1] / "recipes" / "weights" / "ct_denoiser"
FACTORS = {"mm": 1.0, "meter": 1e-3, "micron": 1e3}


def in_unit(path, unit):
    """Writes a scan anew, with its lengths in another unit."""
    image = nib.load(path)
    affine = np.diag([FACTORS[unit]] * 3 + [1.0]) @ image.affine
    made = nib.Nifti1Image(np.array(image.dataobj), affine)  # no longer mapped
    made.header.set_xyzt_units(unit)
    nib.save(made, path)
    return path


@pytest.fixture(scope="module")
def clean_hu():
    """(12, 96, 96) HU of a phantom."""
    return abdomen((12, 96, 96), rng=np.random.default_rng(5))[0]


@pytest.fixture
def array(tmp_path, clean_hu):
    """A noisy (Z, Y, X) array, saved with the identity as its affine."""
    noisy = clean_hu + np.random.default_rng(6).normal(0, 80, clean_hu.shape)
    path = tmp_path / "array.nii.gz"
    nib.save(nib.Nifti1Image(np.rint(noisy).astype(np.int16), np.eye(4)), path)
    return path


def stored(path):
    return np.asarray(nib.load(path).dataobj).astype(float)


def test_a_simulated_dose_is_the_same_in_every_unit(engine, cpu, tmp_path):
    hu, _ = abdomen((1, 64, 64), rng=np.random.default_rng(0))
    change_hu = {}
    for unit in FACTORS:
        path = tmp_path / f"{unit}.nii"
        write_hu(path, hu, (3.0, 5.0, 5.0))
        in_unit(path, unit)
        assert engine("degrade", path, "--as", "low_dose:1e5")[0] == 0
        made = tmp_path / f"{unit}_low_dose-1e5.nii"
        assert made.read_bytes()[:352] == path.read_bytes()[:352]
        tissue = (stored(path) > -200) & (stored(path) < 300)
        change_hu[unit] = float(np.std((stored(made) - stored(path))[tissue]))
    assert change_hu["meter"] == pytest.approx(change_hu["mm"], rel=0.03)
    assert change_hu["micron"] == pytest.approx(change_hu["mm"], rel=0.03)


def test_a_recording_in_another_unit_is_on_the_same_grid(tmp_path, phantom_hu):
    (tmp_path / "case").mkdir()
    for name in ("imaging", "quarter"):
        write_hu(tmp_path / "case" / f"{name}.nii.gz", phantom_hu, (3.0, 0.8, 0.7))
    in_unit(tmp_path / "case" / "quarter.nii.gz", "meter")
    (case,) = find_cases(tmp_path, "quarter")
    assert case.open().spacing_mm == pytest.approx((3.0, 0.8, 0.7))


def test_a_stored_volume_has_the_spacing_and_the_axes_of_its_file(tmp_path, phantom_hu):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "scan.nii.gz"
    write_hu(path, phantom_hu, (3.0, 0.8, 0.7))
    store = Store(tmp_path / "store")
    for unit in ("mm", "meter"):
        (case,) = find_cases(in_unit(path, unit).parent)
        assert store.volume(case).spacing_mm == pytest.approx((3.0, 0.8, 0.7))
    nib.save(nib.Nifti1Image(phantom_hu, np.eye(4)), path)
    for trust, shape in ((STRICT, (64, 64, 12)), (ReadOptions(axes="ZYX"), (12, 64, 64))):
        (case,) = find_cases(path.parent, trust=trust)
        assert store.volume(case).hu.shape == shape


def test_an_array_is_denoised_along_the_axes_that_the_user_names(engine, array, clean_hu):
    code, _, err = engine("denoise", array, "-m", WEIGHTS, "--axes", "ZYX")
    assert code == 0
    assert "its spacing is unknown" in err
    made = array.with_name("array_denoised.nii.gz")
    assert nib.load(made).shape == (12, 96, 96)
    assert open_scan(made).head == open_scan(array).head
    assert _rmse_hu(array, clean_hu) == pytest.approx(80, rel=0.02)
    assert _rmse_hu(made, clean_hu) < 40
    true = array.with_name("true.nii.gz")
    write_hu(true, stored(array).astype(np.int16), (1.0, 1.0, 1.0))
    assert engine("denoise", true, "-m", WEIGHTS)[0] == 0
    np.testing.assert_array_equal(stored(made), stored(true.with_name("true_denoised.nii.gz")))
    _, _, err = engine("denoise", array, "-m", WEIGHTS, "--overwrite")
    assert "--axes ZYX reads it so" in err
    assert (stored(made) != stored(true.with_name("true_denoised.nii.gz"))).mean() > 0.5


def _rmse_hu(path, clean_hu):
    return float(np.sqrt(np.mean((stored(path) - clean_hu) ** 2)))


def test_what_was_denoised_with_named_axes_is_verified_with_them(engine, unet_like, array):
    assert engine("denoise", array, "-m", unet_like, "--axes", "ZYX")[0] == 0
    code, out, _ = engine(
        "verify", array.with_name("array_denoised.nii.gz"), "-m", unet_like, "--again"
    )
    assert code == 0
    assert "the network gives the same voxels, bit for bit" in out


@pytest.fixture(scope="module")
def unet_like(cpu, tmp_path_factory):
    """A run whose network has never learned."""
    from tests.engine.tiny import tiny, untrained

    return untrained(tmp_path_factory.mktemp("runs") / "unet", tiny(), cpu).folder


def test_degraded_arrays_record_their_axes_and_are_not_continued_with_others(
    engine, array, clean_hu, tmp_path
):
    words = ("degrade", array, "--as", "gaussian:0.1,gaussian:0.05", "-o", tmp_path / "out")
    assert engine(*words, "--axes", "ZYX")[0] == 0
    made = tmp_path / "out" / "array" / "gaussian-0.1.nii.gz"
    assert nib.load(made).shape == clean_hu.shape
    assert '"source_axes": "ZYX"' in made.with_name("gaussian-0.1.json").read_text()
    for other in ([], ["--axes", "ZXY"]):
        code, _, err = engine(*words, *other)
        assert code == 4
        assert "exists, but was made with another source_axes" in err
    assert engine(*words, "--axes", "zyx")[0] == 0


@pytest.mark.parametrize("command", ["fit", "evaluate", "degrade", "info"])
def test_every_command_warns_about_arrays_without_geometry(engine, tmp_path, array, command):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(4):
        image = nib.load(array)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + i, np.eye(4)), data / f"p{i}.nii.gz")
    words = {
        "fit": ("fit", "unet3d", *shrinking(), "--data", data, "--dry-run"),
        "evaluate": ("evaluate", "noisy", "--data", data, "-o", tmp_path / "report", "--split",
                     "all", "--slices", "1", "--no-tuning"),
        "degrade": ("degrade", data / "p1.nii.gz", "--as", "gaussian:0.1"),
        "info": ("info", data / "p1.nii.gz"),
    }[command]  # fmt: skip
    code, out, err = engine(*words)
    assert code == 0
    assert "--axes ZYX reads it so" in out + err
    more = ("--overwrite",) if command in ("evaluate", "degrade") else ()
    code, out, err = engine(*words, "--axes", "ZYX", *more)
    assert code == 0
    assert "--axes" not in out + err
    assert "its spacing is unknown" in out + err


@pytest.mark.parametrize("command", ["denoise", "degrade", "info", "fit", "evaluate"])
@pytest.mark.parametrize("axes", ["ZZX", "ZY", "012", ""])
def test_axes_that_are_no_order_of_three_end_with_2(engine, array, command, axes):
    more = {
        "degrade": (array, "--as", "gaussian:0.1"), "fit": ("unet3d",), "evaluate": ("noisy",),
    }.get(command, (array,))  # fmt: skip
    code, out, err = engine(command, *more, "--axes", axes)
    assert (code, out) == (2, "")
    assert f"--axes: takes an order of X, Y and Z, not {axes!r}" in err
