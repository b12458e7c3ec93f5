import numpy as np
import pytest

from engine.scoring.case_images import case_images
from volumes.sampling.coloured_noise import Coloured
from volumes.sampling.noise import Gaussian, Recorded
from volumes.sampling.scanner_noise import LowDose
from volumes.tomography.geometry import FanBeam
from volumes.tomography.scanner import Scanner
from volumes.volume import Volume
from volumes.window import Window

SHAPE = (3, 32, 32)
LOW = LowDose(3e3, scanner=Scanner(FanBeam(60, 41, 35.0, 62.5)))


@pytest.fixture
def volume():
    """Tissue with metal and lung, padding in the first rows, and a noisy recording."""
    hu = np.full(SHAPE, 40, np.int16)
    hu[:, 10:14, 10:14] = 3000
    hu[:, 20:24, 5:9] = -1030
    padding = np.zeros(SHAPE, bool)
    padding[:, :4] = True
    hu[padding] = -1000
    noise = np.random.default_rng(0).normal(0, 100, SHAPE).astype(np.int16)
    noisy = np.where(padding, np.int16(-1000), hu + noise)
    noisy[1, 30, 30], noisy[1, 30, 31] = -4000, 5000
    padded = np.packbits(padding, axis=-1)
    return Volume(hu, (2.0, 1.0, 1.0), "case", "", noisy_hu=noisy, padded=padded)


NOISES = [Gaussian(0.1), Coloured(0.1, 0.5, 0.3), Recorded(), LOW]


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: type(noise).__name__)
def test_padding_has_no_noise_and_no_method_changes_it(volume, noise):
    images = case_images(volume, noise, Window())
    np.testing.assert_array_equal(images.padding, volume.padding(slice(None)))
    assert (images.noisy[images.padding] == 0).all()
    assert (images.noisy[~images.padding] != images.clean[~images.padding]).mean() > 0.8
    kept = images.keeping_padding(np.ones(SHAPE, np.float32))
    assert (kept[images.padding] == 0).all()
    assert (kept[~images.padding] == 1).all()


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: type(noise).__name__)
@pytest.mark.parametrize("window", [Window(), Window(low_hu=-100, high_hu=-50)])
def test_noisy_images_are_clipped_to_the_bounds_of_the_noise_as_in_denoise(volume, noise, window):
    images = case_images(volume, noise, window)
    low, high = np.float32(noise.bounds)
    linear = case_images(volume, noise, Window(window.low_hu, window.high_hu, clip=False))
    wanted = np.clip(linear.noisy, low, high)
    np.testing.assert_array_equal(images.noisy[~images.padding], wanted[~images.padding])
    if window.high_hu < 0:  # tissue and metal lie above the window
        assert linear.noisy.max() > images.noisy.max() == high


def test_noise_is_added_to_the_scan_and_not_to_its_clipped_image(volume):
    images, window = case_images(volume, Gaussian(0.05), Window()), Window()
    unit = window.unit(volume.hu)
    wanted = Gaussian(0.05).degrade(unit, 0.05, 0, "case")
    inside = ~images.padding & (wanted <= Gaussian(0.05).bounds[1])
    np.testing.assert_array_equal(images.noisy[inside], wanted[inside])
    metal = volume.hu == 3000
    assert (np.clip(images.noisy[metal], 0, 1) == images.clean[metal]).all()


def test_the_reference_adds_noise_to_the_clipped_image_and_does_not_clip_again(volume):
    images = case_images(volume, Gaussian(0.1), Window(), clipped_first=True)
    wanted = Gaussian(0.1).degrade(images.clean, 0.1, 0, "case")
    np.testing.assert_array_equal(images.noisy[~images.padding], wanted[~images.padding])


def test_the_residual_is_described_where_the_clean_image_is_in_the_window(volume):
    images = case_images(volume, Gaussian(0.1), Window())
    np.testing.assert_array_equal(images.within, volume.hu == 40)


def test_slices_and_blocks_are_those_of_the_whole(volume):
    from volumes.boxes import Box

    whole = case_images(volume, Gaussian(0.1), Window())
    part = case_images(volume, Gaussian(0.1), Window(), slices=slice(1, 3))
    box = Box((1, 2, 3), (2, 20, 20))
    for one, other, block, name in zip(
        part, whole.part(slice(1, 3)), whole.block(box), whole._fields, strict=True
    ):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(block, getattr(whole, name)[box.slices])
