"""What is promised of a denoised scan: it is the same scan with less noise."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from engine.denoising.denoise import DenoiseSettings, denoise
from engine.inference.predictor import Predictor
from engine.runs.run import Run
from engine.runs.trained_model import Model, open_model
from engine.simulation import degrade
from volumes import Gaussian, nifti
from volumes.dataset import find_cases
from volumes.padding import padding
from volumes.phantoms.abdomen import abdomen
from volumes.window import Window

SIGMA_HU = 140
ORDERS = {"stored": "IPL", "RAS": "RAS", "LPS with flipped slices": "LPI"}


@pytest.fixture(scope="module")
def model(cpu, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small ResPr-UNet, trained on phantoms until it denoises well enough to be judged."""
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("integrity")
    for i in range(4):
        hu, spacing_mm = abdomen((16, 128, 128), rng=np.random.default_rng(i))
        case = folder / "data" / f"case_{i:05d}"
        case.mkdir(parents=True)
        nifti.write_hu(case / "imaging.nii.gz", hu, spacing_mm)
    fields = ("crop.shape=16,48,48", "network.width=8", "steps=300", "batch=2")
    rate = ("learning_rate=cosine:3e-3,1e-5", "split.validation=1", "split.test=1")
    places = ("--data", str(folder / "data"), "--run", str(folder / "run"), "--devices", "cpu")
    code = run(["fit", "respr_unet3d", *fields, *rate, *places, "-q"])
    assert code == 0
    return open_model(Run(folder / "run"))


@pytest.fixture(scope="module")
def estimator(model: Model):
    return Predictor.of(model)


class Noisy:
    """A clean scan, its noisy copy on disk, and what became of it."""

    def __init__(self, folder: Path, hu: np.ndarray, spacing_mm, model: Model, estimator) -> None:
        self.path = folder / "noisy.nii.gz"
        nifti.write_hu(folder / "clean.nii.gz", hu, spacing_mm, overwrite=True)
        degrade.degrade(folder / "clean.nii.gz", self.path, Gaussian(0.1), 0, overwrite=True)
        self.clean = hu.astype(np.float32)
        self.model, self.estimator = model, estimator
        self.scan = nifti.open_scan(self.path)
        self.noisy, self.out = self.denoised(self.path)

    def denoised(self, path: Path, **request) -> tuple[np.ndarray, np.ndarray]:
        scan = nifti.open_scan(path)
        done = denoise(scan, self.model, self.estimator, DenoiseSettings(**request), lambda _: None)
        return tuple(scan.hu(scan.canonical(a)) for a in (done.before, done.after))

    @property
    def tissue(self) -> np.ndarray:
        """Uniform soft tissue, away from edges."""
        smooth = ndimage.uniform_filter(self.clean, (1, 5, 5))
        square = ndimage.uniform_filter(self.clean**2, (1, 5, 5))
        return (np.abs(smooth - 40) < 120) & (square - smooth**2 < 20**2)

    @property
    def bone(self) -> np.ndarray:
        """Bone clearly above the window, without the rim where voxels are partly something else."""
        return ndimage.binary_erosion(self.clean > 450, np.ones((1, 3, 3)))


@pytest.fixture(scope="module")
def phantom(model: Model, estimator, tmp_path_factory: pytest.TempPathFactory) -> Noisy:
    fine_mm = (3.0, 1.2, 1.2)  # the spine and what lies before it, its bone wider than a voxel
    hu, spacing_mm = abdomen((13, 150, 150), rng=np.random.default_rng(100), spacing_mm=fine_mm)
    hu[:, :9] = -2048  # padding, as scanners write beside the field of view
    return Noisy(tmp_path_factory.mktemp("phantom"), hu, spacing_mm, model, estimator)


@pytest.fixture(scope="module")
def patient(
    real_ct: Path, model: Model, estimator, tmp_path_factory: pytest.TempPathFactory
) -> Noisy:
    scan = nifti.open_scan(find_cases(real_ct)[5].path)
    hu = scan.read_hu()
    folder = tmp_path_factory.mktemp("patient")
    return Noisy(folder, hu[4:12], scan.spacing_mm, model, estimator)


SCANS = ["phantom", pytest.param("patient", marks=pytest.mark.real_ct)]


@pytest.fixture(scope="module", params=SCANS)
def noisy(request: pytest.FixtureRequest) -> Noisy:
    return request.getfixturevalue(request.param)


def test_noise_is_removed(noisy: Noisy) -> None:
    before = np.std((noisy.noisy - noisy.clean)[noisy.tissue])
    after = np.std((noisy.out - noisy.clean)[noisy.tissue])
    assert before == pytest.approx(SIGMA_HU, rel=0.03)
    assert after < before / 2


def test_uniform_tissue_holds_no_surviving_spikes(noisy: Noisy) -> None:
    spikes = noisy.tissue & (np.abs(noisy.noisy - noisy.clean) > 3.5 * SIGMA_HU)
    around = ndimage.median_filter(noisy.out, (1, 5, 5))
    assert spikes.any()
    assert np.abs(noisy.out - around)[spikes].max() < 2 * SIGMA_HU


def test_noise_below_air_is_removed(noisy: Noisy) -> None:
    air = (noisy.clean < -980) & ~padding(noisy.clean)
    air = ndimage.binary_erosion(air, np.ones((1, 5, 5)))
    assert air.sum() > 200
    assert (noisy.noisy[air] < -1300).mean() > 0.01
    assert (noisy.out[air] < -1300).mean() < 1e-4


def test_bone_above_the_window_keeps_its_mean_within_5_hu(noisy: Noisy) -> None:
    assert noisy.bone.sum() > 100
    shift = (noisy.out - noisy.noisy)[noisy.bone].mean()
    assert abs(shift) < 5


def test_padding_comes_back_to_the_bit(noisy: Noisy) -> None:
    mask = padding(noisy.noisy)
    assert mask.any()
    np.testing.assert_array_equal(noisy.out[mask], noisy.noisy[mask])


def test_tiled_equals_untiled(noisy: Noisy, tmp_path: Path) -> None:
    # In a scan of whole numbers, rounding would hide small seams and double the others.
    path = tmp_path / "float.nii.gz"
    nifti.write_derived(noisy.scan, noisy.scan.hu(noisy.scan.read()) + np.float32(0.25), path)
    tiled = noisy.denoised(path, tile=(4, 64, 36))[1]
    untiled = noisy.denoised(path, tile=noisy.scan.shape)[1]
    assert tiled.dtype == np.float32
    assert np.abs(tiled - untiled).max() <= 0.01


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_the_axes_changes_no_voxel(order: str, noisy: Noisy, tmp_path: Path) -> None:
    image = nib.load(noisy.path)
    wanted = nib.orientations.axcodes2ornt(ORDERS[order])
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)
    nib.save(image.as_reoriented(turn), tmp_path / "turned.nii.gz")
    before, after = noisy.denoised(tmp_path / "turned.nii.gz")
    np.testing.assert_array_equal(before, noisy.noisy)
    np.testing.assert_array_equal(after, noisy.out)


def test_no_strength_returns_the_scan_to_the_bit(noisy: Noisy) -> None:
    before, after = noisy.denoised(noisy.path, strength=0.0)
    np.testing.assert_array_equal(after, before)


def test_the_window_of_the_recipes_is_the_one_that_these_limits_were_set_for(model: Model) -> None:
    assert (model.recipe.window.low_hu, model.recipe.window.high_hu) == (
        Window().low_hu,
        Window().high_hu,
    )
