"""The images whose slices a prior averages."""

import numpy as np
import pytest
from skimage.restoration import denoise_tv_chambolle

from volumes.sampling.prior_sources import Clean, Noisy, SliceTV, Turned

SIGMA = 0.1


@pytest.fixture(autouse=True)
def _tensorflow(cpu):
    """Sources work on tensors."""


@pytest.fixture(scope="module")
def images():
    """(2, 3, 21, 18, 1): a disc, and the disc with noise."""
    y, x = np.mgrid[:21, :18]
    clean = np.broadcast_to(0.2 + 0.6 * ((y - 10) ** 2 + (x - 7) ** 2 < 30), (2, 3, 21, 18))
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    pair = clean, clean + SIGMA * noise
    return tuple(image.astype(np.float32)[..., None] for image in pair)


def sigmas(*values):
    return np.array(values, np.float32)


def test_the_noisy_source_is_the_noisy_image(images):
    clean, noisy = images
    assert Noisy().image(clean, noisy, sigmas(SIGMA, SIGMA)) is noisy


def test_total_variation_works_slice_by_slice_with_each_examples_own_noise(images):
    _, noisy = images
    found = SliceTV(weight=0.8, iterations=400).image(None, noisy, sigmas(SIGMA, SIGMA / 4))
    for example, sigma in enumerate((SIGMA, SIGMA / 4)):
        for z in range(3):
            slice_ = noisy[example, z, ..., 0].astype(float)
            expected = denoise_tv_chambolle(slice_, weight=0.8 * sigma, eps=1e-9, max_num_iter=2000)
            np.testing.assert_allclose(found[example, z, ..., 0], expected, atol=2e-3)


def test_its_usual_iterations_are_enough(images):
    clean, noisy = images
    few, many = (
        np.asarray(SliceTV(iterations=n).image(None, noisy, sigmas(SIGMA, SIGMA)))
        for n in (SliceTV().iterations, 1000)
    )
    left = np.std(many - clean)
    assert np.std(noisy - clean) > 2 * left
    assert np.std(few - clean) == pytest.approx(left, rel=0.02)


def test_the_oracle_is_the_clean_image_and_refuses_an_unknown_one(images):
    clean, noisy = images
    assert Clean().image(clean, noisy, sigmas(SIGMA, SIGMA)) is clean
    with pytest.raises(ValueError, match="needs the clean image"):
        Clean().image(None, noisy, sigmas(SIGMA, SIGMA))


def test_the_control_turns_every_slice_by_half_a_turn(images):
    _, noisy = images
    found = np.asarray(Turned().image(None, noisy, sigmas(SIGMA, SIGMA)))
    np.testing.assert_array_equal(found, np.rot90(noisy, 2, axes=(2, 3)))


@pytest.mark.parametrize("fields", [{"weight": 0.0}, {"weight": -1.0}, {"iterations": 0}])
def test_an_impossible_total_variation_is_refused(fields):
    with pytest.raises(ValueError, match="SliceTV"):
        SliceTV(**fields)
