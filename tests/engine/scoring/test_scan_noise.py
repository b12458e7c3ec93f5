"""The noise of a scan without a clean twin, against noise that is known."""

import math

import numpy as np
import pytest
from scipy import ndimage

from engine.scoring.scan_noise import TISSUES, TissueNoise, scan_noise
from engine.scoring.tissue_classes import TISSUE_HU, is_tissue
from volumes import nifti, random_draws
from volumes.phantoms.abdomen import abdomen
from volumes.sampling.noise_spectrum import Spectrum, slice_noise

SPACING_MM = (3.0, 0.95, 0.95)
# The corners and the middle of what `ct_denoiser` learns: exponent and cut-off of the spectrum.
KERNELS = [(0.2, 0.1), (0.2, 0.6), (1.0, 0.1), (1.0, 0.6), (0.6, 0.25)]


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """(4, 320, 320) float32 HU of a phantom, air in front of it and behind it."""
    rng = random_draws.rng(0, "phantom", 3)
    hu, _ = abdomen((4, 320, 320), rng=rng, spacing_mm=SPACING_MM)
    hu = hu.astype(np.float32)
    hu.setflags(write=False)
    return hu


def noise(shape: tuple[int, ...], spectrum: Spectrum | None = None) -> np.ndarray:
    """Noise of unit variance: white, or with a spectrum."""
    rng = random_draws.rng(0, "test of the noise of a scan")
    if spectrum is None:
        return rng.standard_normal(shape, np.float32)
    return np.stack([slice_noise(shape[1:], spectrum, rng) for _ in range(shape[0])])


def sigma_hu(hu: np.ndarray, tissue: str = "soft_tissue", spacing_mm=SPACING_MM) -> float:
    found = scan_noise(hu, spacing_mm).tissues[tissue]
    assert isinstance(found, TissueNoise), found
    return found.sigma_hu


def own_sigma_hu(clean: np.ndarray, sigma: float) -> float:
    """Of added noise and the texture of the phantom, about 3.5 HU in soft tissue."""
    return math.hypot(1400 * sigma, 3.5)


@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("kernel", [None, (0.6, 0.25), (0.2, 0.6), (1.0, 0.6)])
def test_added_noise_is_measured_within_10_percent(clean, sigma, kernel):
    added = noise(clean.shape, kernel and Spectrum(*kernel))
    found = sigma_hu(clean + np.float32(1400 * sigma) * added)
    assert found == pytest.approx(own_sigma_hu(clean, sigma), rel=0.1)


@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("slices", [1, 4])
def test_white_noise_suits_the_network_of_white_noise(clean, sigma, slices):
    white = noise(clean.shape)
    found = scan_noise((clean + np.float32(1400 * sigma) * white)[:slices], SPACING_MM)
    assert (found.colour, found.network) == ("white", "gaussian_denoiser")
    assert found.sigma == pytest.approx(own_sigma_hu(clean, sigma) / 1400, rel=0.1)
    assert abs(found.neighbours) < 0.15


@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("slices", [1, 4])
def test_noise_of_kernels_suits_the_network_of_kernels(clean, sigma, kernel, slices):
    coloured = noise(clean.shape, Spectrum(*kernel))
    found = scan_noise((clean + np.float32(1400 * sigma) * coloured)[:slices], SPACING_MM)
    assert (found.colour, found.network) == ("coloured", "ct_denoiser")


def test_the_spectrum_is_that_of_the_added_noise(clean):
    spectrum = Spectrum(exponent=0.6, cutoff=0.25)
    found = scan_noise(clean + 70 * noise(clean.shape, spectrum), SPACING_MM)
    assert found.of_differences
    frequency, power = found.power.radial
    known = spectrum.amplitude(frequency * 0.95, 0.0) ** 2
    inside = frequency > 0.2  # what is slower goes with the plane, and under the window
    ratio = (power / power.sum() / (known / known.sum()))[inside]
    np.testing.assert_allclose(ratio[known[inside] > 0.05 * known.max()], 1, rtol=0.35)
    assert found.power.sigma_hu == pytest.approx(70, rel=0.1)


def test_noise_that_slices_share_correlates_between_them(clean):
    white = noise((len(clean) + 1, *clean.shape[1:]))
    overlapping = (white[1:] + white[:-1]) / np.float32(math.sqrt(2))
    assert scan_noise(clean + 70 * overlapping, SPACING_MM).between_slices == pytest.approx(
        0.5, abs=0.1
    )
    assert scan_noise(clean + 70 * white[1:], SPACING_MM).between_slices < 0.15


def test_each_tissue_has_its_own_noise(clean):
    inside = ndimage.uniform_filter(clean, (0, 9, 9)) > -300
    strength = np.where(inside, np.float32(40), np.float32(15))
    noisy = clean + strength * noise(clean.shape)
    assert sigma_hu(noisy) == pytest.approx(40, rel=0.1)
    assert sigma_hu(noisy, "air") == pytest.approx(15, rel=0.1)


def test_padding_is_not_measured(clean):
    y, x = np.ogrid[-160:160, -160:160]
    outside = np.broadcast_to(y**2 + x**2 > 185**2, clean.shape)
    noisy = clean + 28 * noise(clean.shape)
    for value in (-1024, -2000, -32768, np.nan):
        padded = np.where(outside, np.float32(value), noisy)
        assert sigma_hu(padded) == pytest.approx(own_sigma_hu(clean, 0.02), rel=0.1)
        assert sigma_hu(padded, "air") == pytest.approx(28, rel=0.1)


def test_clipped_air_is_not_measured(clean):
    noisy = np.maximum(clean + 28 * noise(clean.shape), -1000)
    found = scan_noise(noisy, SPACING_MM)
    assert found.tissues["air"] == "clipped at the lowest value"
    assert found.sigma_hu == pytest.approx(own_sigma_hu(clean, 0.02), rel=0.1)


def test_metal_and_its_streaks_do_no_harm(clean):
    y, x = np.mgrid[-160:160, -160:160].astype(np.float32)
    metal = np.where(y**2 + x**2 < 15**2, np.float32(3000), 0)
    streaks = 400 * np.exp(-(y**2) / 200) * np.cos(y / 2)
    noisy = clean + metal + streaks + 28 * noise(clean.shape)
    found = scan_noise(noisy, SPACING_MM)
    assert found.sigma_hu == pytest.approx(own_sigma_hu(clean, 0.02), rel=0.1)
    assert found.colour == "white"


def test_slices_with_other_anatomy_are_measured_one_by_one(clean):
    thick = np.stack([clean[0], clean[1, ::-1], clean[2, :, ::-1], clean[3, ::-1, ::-1]])
    noisy = thick + 14 * noise(clean.shape)
    found = scan_noise(noisy, (10.0, 0.95, 0.95))
    assert found.sigma_hu == pytest.approx(own_sigma_hu(clean, 0.01), rel=0.1)
    assert found.colour == "white"


def test_lung_is_no_uniform_tissue(clean):
    rng = random_draws.rng(0, "lung")
    texture = ndimage.gaussian_filter(rng.standard_normal(clean.shape), (0, 3, 3))
    lung = np.where(clean > -300, -800 + 900 * texture, clean).astype(np.float32)
    found = scan_noise(lung + 14 * noise(clean.shape), SPACING_MM)
    assert found.tissues["soft_tissue"] == "no uniform region"
    assert found.tissue == "air"
    assert found.sigma_hu == pytest.approx(14, rel=0.1)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 64, 64)),
        np.full((3, 64, 64), 40.0),
        np.full((1, 64, 64), np.nan),
        500 + 50 * random_draws.rng(0, "MR").standard_normal((3, 64, 64)),
        random_draws.rng(0, "unit").random((3, 64, 64)),
    ],
    ids=["zeros", "constant", "nothing finite", "MR", "in [0, 1]"],
)
def test_what_is_no_ct_has_a_reason_instead_of_a_number(array):
    found = scan_noise(array, SPACING_MM)
    assert set(found.tissues.values()) == {"the values do not look like HU"}
    assert found.sigma_hu is found.sigma is found.colour is found.network is None
    assert found.bands == ()


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 9), (3, 15, 15), (2, 16, 16), (1, 8, 300)])
def test_scans_too_small_for_regions_have_a_reason(shape):
    found = scan_noise(noise(shape) * 20 - 1000, SPACING_MM)
    assert found.tissues == dict.fromkeys(TISSUES, "no uniform region")


def test_a_scan_without_noise_says_so():
    hu = np.full((2, 128, 128), 40.0)
    hu[:, :32] = -1000
    found = scan_noise(hu, SPACING_MM)
    assert found.tissues["soft_tissue"] == "no noise"
    assert found.sigma_hu is None


def test_stored_values_are_converted_slice_by_slice(clean):
    noisy = np.rint(clean + 28 * noise(clean.shape))
    stored = ((noisy + 1024) / 2).astype(np.uint16)
    found = scan_noise(stored, SPACING_MM, hu=lambda slice_: slice_ * 2.0 - 1024)
    assert found.sigma_hu == pytest.approx(own_sigma_hu(clean, 0.02), rel=0.1)


def test_tissue_classes_do_not_overlap():
    hu = np.arange(-2000, 3000)
    inside = np.stack([is_tissue(name, hu) for name in TISSUE_HU])
    assert inside.sum(axis=0).max() == 1
    assert (inside.sum(axis=0) == 0).sum() == 350  # between lung and fat


@pytest.mark.real_ct
def test_the_noise_of_scanners_is_coloured(real_ct):
    for path in sorted(real_ct.glob("*/imaging.nii.gz")):
        scan = nifti.open_scan(path)
        found = scan_noise(scan.read_hu(), scan.spacing_mm)
        assert found.colour == "coloured", path
        assert 3 < found.sigma_hu < 60, path


@pytest.mark.real_ct
def test_white_noise_that_was_added_to_a_real_scan_is_white(real_ct):
    for path in sorted(real_ct.glob("*/imaging.nii.gz")):
        scan = nifti.open_scan(path)
        hu = scan.read_hu()[:6].astype(np.float32)
        own = sigma_hu(hu, spacing_mm=scan.spacing_mm)
        found = scan_noise(hu + 70 * noise(hu.shape), scan.spacing_mm)
        assert found.colour == "white", path
        assert found.sigma_hu == pytest.approx(math.hypot(70, own), rel=0.1), path


@pytest.mark.real_ct
def test_a_quarter_of_the_dose_doubles_the_noise(real_ct):
    pairs = sorted((real_ct.parent / "pairs").glob("mayo_*"))
    if not pairs:
        pytest.skip("no pairs beside the real CT volumes")
    for folder in pairs:
        full, quarter = (
            nifti.open_scan(folder / f"{dose}.nii.gz").read_hu() for dose in ("full", "quarter")
        )
        ratio = sigma_hu(quarter) / sigma_hu(full)
        assert 1.7 < ratio < 2.5, folder
