"""The task transfer function: known blurs come back, and it agrees with pylinac."""

import numpy as np
import pytest
from scipy import ndimage

from engine.characterization.task_transfer import edge_spread, point_transfer, task_transfer
from volumes import random_draws
from volumes.phantoms.rods import Rod, RodPhantom

PIXEL_MM, FINE = 0.7, 7  # FINE x FINE samples a pixel
SIGMA_MM = 0.6


def blurred(
    hu: float, diameter_mm: float = 12.0, pixel_mm: float = PIXEL_MM, sigma_mm: float = SIGMA_MM
) -> tuple[np.ndarray, Rod]:
    """(N, N) point samples of a rod blurred by a Gaussian, and the rod in their coordinates."""
    rod = Rod("rod", 1.3, -0.8, diameter_mm, hu)
    size = 100 * FINE
    image = RodPhantom("fine", 94 * pixel_mm, (rod,)).image(size, pixel_mm / FINE)
    smooth = ndimage.gaussian_filter(image.astype(float), sigma_mm / pixel_mm * FINE)
    return smooth[FINE // 2 :: FINE, FINE // 2 :: FINE], rod


def gaussian(frequency: np.ndarray) -> np.ndarray:
    """The transfer function of the blur."""
    return np.exp(-2 * (np.pi * SIGMA_MM * frequency) ** 2)


@pytest.mark.parametrize("hu", [990, 15, -1000])
def test_a_gaussian_blur_has_its_own_transfer_function_at_every_contrast(hu) -> None:
    image, rod = blurred(hu)
    found = task_transfer(image, rod, PIXEL_MM)
    # The pixels of a circle fill bins of a quarter of a pixel unevenly: 0.02 near the Nyquist
    # frequency. The curvature of the edge and the tapered window take less than 0.005.
    np.testing.assert_allclose(found.transfer, gaussian(found.frequency_per_mm), atol=0.025)
    low = found.frequency_per_mm < 0.3
    wanted = gaussian(found.frequency_per_mm[low])
    np.testing.assert_allclose(found.transfer[low], wanted, atol=0.006)
    assert found.contrast_hu == pytest.approx(hu, rel=0.01)
    half = np.sqrt(np.log(2) / 2) / np.pi / SIGMA_MM
    assert found.frequency_at(0.5) == pytest.approx(half, rel=0.01)


@pytest.mark.parametrize(("pixel_mm", "sigma_mm"), [(0.7, 0.6), (0.5, 0.5), (0.25, 0.25)])
def test_a_bead_has_the_transfer_function_of_the_blur_without_its_own_width(
    pixel_mm, sigma_mm
) -> None:
    image, rod = blurred(3000, 0.5, pixel_mm, sigma_mm)
    found = point_transfer(image, rod, pixel_mm)
    wanted = np.exp(-2 * (np.pi * sigma_mm * found.frequency_per_mm) ** 2)
    np.testing.assert_allclose(found.transfer, wanted, atol=0.01)
    half = np.sqrt(np.log(2) / 2) / np.pi / sigma_mm
    assert found.frequency_at(0.5) == pytest.approx(half, rel=0.01)


def test_a_bead_shows_no_frequency_at_which_nothing_is_left_of_its_spectrum() -> None:
    image, rod = blurred(3000, 0.5, 0.2, 0.25)
    found = point_transfer(image, rod, 0.2)  # its spectrum is 0 at 2.44 per mm, the last is 2.5
    assert found.frequency_per_mm[-1] == pytest.approx(1.96, abs=0.011)
    assert found.transfer.max() == found.transfer[0] == 1


def test_an_edge_in_noise_is_found_in_the_mean_of_many_images() -> None:
    image, rod = blurred(35)
    rng = random_draws.rng(0, "test of the task transfer")
    mean = image + 20 / np.sqrt(200) * rng.standard_normal(image.shape)
    found = task_transfer(mean, rod, PIXEL_MM, noise_hu=20 / np.sqrt(200))
    half = np.sqrt(np.log(2) / 2) / np.pi / SIGMA_MM
    assert found.measurable
    # Noise of 1.4 HU on 35 HU, over an edge of 38 mm: about 4 % of the frequency, 3 of them.
    assert found.frequency_at(0.5) == pytest.approx(half, rel=0.12)


def test_an_edge_that_is_lost_in_noise_has_no_resolution() -> None:
    image, rod = blurred(5)
    found = task_transfer(image, rod, PIXEL_MM, noise_hu=2.0)
    assert not found.measurable
    assert np.isnan(found.frequency_at(0.5))


def test_a_flat_image_has_no_resolution() -> None:
    found = task_transfer(np.zeros((64, 64)), Rod("none", 0, 0, 12, 0), PIXEL_MM, noise_hu=1.0)
    assert np.isnan(found.frequency_at(0.5))


def test_pylinac_finds_the_same_half_of_the_edge() -> None:
    mtf = pytest.importorskip("pylinac.core.mtf", reason="pylinac is not installed: [test] has it")
    image, rod = blurred(340)
    at, spread = edge_spread(image, rod, PIXEL_MM)
    theirs = mtf.EdgeSpreadFunctionMTF([spread], sample_spacing=at[1] - at[0])
    ours = task_transfer(image, rod, PIXEL_MM)
    for level in (0.5, 0.1):
        # They do not correct for the derivative over two bins (2 % at 0.6 / mm), and taper more.
        assert ours.frequency_at(level) == pytest.approx(
            theirs.relative_resolution(100 * level), rel=0.03
        )
