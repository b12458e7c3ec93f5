from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from volumes import random_draws
from volumes.errors import BadInput
from volumes.sampling.noise import AsScanned, Gaussian, Recorded
from volumes.volume import Volume
from volumes.window import Window

WHITE = np.zeros((2, 0), np.float32)  # the spectra of two examples


def keys(*examples):
    return np.stack([random_draws.device_key(0, "noise", i) for i in examples])


@pytest.fixture(scope="module")
def added(cpu):
    """(2, 16, 48, 48, 1) noise of sigma 0.1 and 0.3 from `add` on a ramp."""
    clean = np.linspace(0, 1, 2 * 16 * 48 * 48, dtype=np.float32).reshape(2, 16, 48, 48, 1)
    noisy = Gaussian().add(clean, np.float32([0.1, 0.3]), WHITE, keys(0, 1)).numpy()
    return (noisy - clean).astype(np.float64)


@pytest.fixture(scope="module")
def degraded():
    """(6, 96, 96) noise of sigma 0.2 from `degrade` on the host."""
    clean = np.random.default_rng(0).random((6, 96, 96)).astype(np.float32)
    return Gaussian().degrade(clean, 0.2, 0, "case_00000").astype(np.float64) - clean


def moments_fit(noise, sigma):
    n = noise.size
    assert abs(noise.mean()) < 5 * sigma / np.sqrt(n)
    assert noise.std() == pytest.approx(sigma, rel=5 / np.sqrt(2 * n))
    assert abs(stats.skew(noise, axis=None)) < 5 * np.sqrt(6 / n)
    assert abs(stats.kurtosis(noise, axis=None)) < 5 * np.sqrt(24 / n)


@pytest.mark.parametrize(("example", "sigma"), [(0, 0.1), (1, 0.3)])
def test_noise_on_the_accelerator_has_the_moments_of_its_sigma(added, example, sigma):
    moments_fit(added[example], sigma)


def test_noise_of_two_examples_is_uncorrelated(added):
    r = np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]
    assert abs(r) < 5 / np.sqrt(added[0].size)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_noise_on_the_accelerator_is_white(added, axis):
    noise = added[0].squeeze()
    r = np.corrcoef(noise.ravel(), np.roll(noise, 1, axis - 1).ravel())[0, 1]
    assert abs(r) < 5 / np.sqrt(noise.size)


def test_noise_on_the_host_has_the_moments_of_its_sigma(degraded):
    moments_fit(degraded, 0.2)


def test_noise_of_neighbouring_slices_on_the_host_is_uncorrelated(degraded):
    r = np.corrcoef(degraded.reshape(6, -1))[np.triu_indices(6, 1)]
    assert np.abs(r).max() < 5 / 96


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 6), (5, 6)])
def test_the_noise_of_a_slice_does_not_depend_on_the_block_it_is_in(first, last):
    clean = np.random.default_rng(0).random((6, 17, 19)).astype(np.float32)
    whole = Gaussian().degrade(clean, 0.1, 3, "a")
    block = Gaussian().degrade(clean[first:last], 0.1, 3, "a", first)
    np.testing.assert_array_equal(block, whole[first:last])


@pytest.mark.parametrize(("seed", "case", "first"), [(0, "b", 0), (1, "a", 0), (0, "a", 4)])
def test_another_case_seed_or_slice_has_other_noise(seed, case, first):
    clean = np.zeros((4, 17, 19), np.float32)
    one = Gaussian().degrade(clean, 0.1, 0, "a")
    assert (one != Gaussian().degrade(clean, 0.1, seed, case, first)).all()


def test_the_clean_volume_is_left_alone():
    clean = np.full((2, 5, 5), 0.5, np.float32)
    Gaussian().degrade(clean, 0.1, 0, "a")
    assert (clean == 0.5).all()


def test_without_sigma_nothing_changes(cpu):
    clean = np.random.default_rng(0).random((1, 3, 5, 7, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        Gaussian(0.0).degrade(clean[0, ..., 0], 0, 0, "a"), clean[0, ..., 0]
    )
    np.testing.assert_array_equal(
        Gaussian(0.0).add(clean, np.float32([0]), WHITE[:1], keys(0)), clean
    )


def test_a_single_sigma_is_that_of_every_example():
    noise = Gaussian(0.07)
    assert {noise.draw(np.random.default_rng(i)).sigma for i in range(20)} == {0.07}
    assert noise.typical == pytest.approx(0.07)


def test_a_range_of_sigma_is_drawn_from_evenly():
    noise, rng = Gaussian((0.05, 0.25)), np.random.default_rng(0)
    sigma = np.array([noise.draw(rng).sigma for _ in range(2000)])
    assert sigma.min() >= 0.05
    assert sigma.max() <= 0.25
    assert stats.kstest(sigma, "uniform", (0.05, 0.2)).pvalue > 1e-3
    assert noise.typical == pytest.approx(0.15)


def test_a_range_can_be_drawn_from_evenly_in_the_logarithm():
    noise, rng = Gaussian((0.01, 0.16), spread="log"), np.random.default_rng(0)
    logs = np.log([noise.draw(rng).sigma for _ in range(2000)])
    assert stats.kstest(logs, "uniform", (np.log(0.01), np.log(16))).pvalue > 1e-3
    assert noise.typical == pytest.approx(0.04)


@pytest.mark.parametrize(("sigma", "spread"), [((0.0, 0.1), "log"), (0.1, "normal")])
def test_a_spread_that_cannot_be_drawn_is_refused(sigma, spread):
    with pytest.raises(ValueError, match=r"noise\.s"):
        Gaussian(sigma, spread=spread)


@pytest.mark.parametrize("sigma", [-0.1, (-0.1, 0.1), (0.2, 0.1), float("nan")])
def test_an_impossible_sigma_is_refused(sigma):
    with pytest.raises(ValueError, match=r"noise\.sigma must"):
        Gaussian(sigma)


@pytest.fixture(scope="module")
def compiled(cpu):
    import tensorflow as tf

    add = Gaussian().add
    return {
        "eager": add,
        "graph": tf.function(add),
        "xla": tf.function(add, jit_compile=True),
    }


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    clean = rng.random((2, 5, 17, 13, 1)).astype(np.float32)
    return clean, np.float32([0.1, 0.2]), WHITE, keys(3, 4)


@pytest.mark.parametrize("way", ["graph", "xla"])
def test_the_noise_is_the_same_in_a_graph_and_under_xla(compiled, batch, way):
    np.testing.assert_allclose(compiled[way](*batch), compiled["eager"](*batch), rtol=0, atol=1e-6)


@pytest.mark.parametrize("way", ["eager", "graph", "xla"])
def test_the_noise_of_an_example_does_not_depend_on_its_place_in_the_batch(compiled, batch, way):
    swapped = compiled[way](*(part[::-1].copy() for part in batch)).numpy()
    np.testing.assert_allclose(swapped[::-1], compiled[way](*batch).numpy(), rtol=0, atol=1e-6)


def test_the_noise_of_an_example_does_not_depend_on_the_size_of_the_batch(compiled, batch):
    alone = compiled["graph"](*(part[1:] for part in batch)).numpy()
    np.testing.assert_allclose(alone[0], compiled["graph"](*batch).numpy()[1], rtol=0, atol=1e-6)


def test_another_key_gives_other_noise(compiled, batch):
    clean, sigma, white, _ = batch
    one, other = (
        compiled["graph"](clean, sigma, white, k).numpy() for k in (keys(3, 4), keys(5, 6))
    )
    assert (one != other).mean() > 0.99


def test_recorded_slices_are_those_asked_for():
    hu = np.stack([np.full((3, 4), value, np.int16) for value in (-3000, 40, 3000)])
    volume = Volume(np.zeros_like(hu), (1.0, 1.0, 1.0), "case", "", noisy_hu=hu)
    clean = np.zeros((2, 3, 4), np.float32)
    found = Recorded().noisy(volume, clean, Window(), seed=0, first=1)
    np.testing.assert_allclose(found[:, 0, 0], [1040 / 1400, 4000 / 1400], rtol=1e-6)
    found = Recorded().noisy(volume, clean, Window(), seed=0)
    np.testing.assert_allclose(found[:, 0, 0], [-2000 / 1400, 1040 / 1400], rtol=1e-6)


def test_a_volume_without_a_recording_has_no_recorded_noise():
    volume = Volume(np.zeros((1, 2, 2), np.int16), (1.0, 1.0, 1.0), "case_7", "")
    with pytest.raises(BadInput, match="case_7: has no noisy scan beside it"):
        Recorded().noisy(volume, np.zeros((1, 2, 2), np.float32), Window(), seed=0)


@pytest.mark.parametrize("file", ["", "imaging", "../noisy"])
def test_a_recording_needs_a_name_of_its_own(file):
    with pytest.raises(ValueError, match=r"noise\.file"):
        Recorded(file)


@pytest.mark.parametrize("sigma", [0.02, 0.1, (0.01, 0.2)])
def test_nearly_all_noisy_values_of_a_clipped_image_lie_within_the_bounds(sigma):
    noise = Gaussian(sigma)
    low, high = noise.bounds
    draws_ = np.random.default_rng(0).standard_normal(100_000) * noise.range[1]
    assert np.mean(draws_ < low) < 1e-5
    assert np.mean(1 + draws_ > high) < 2e-3


@pytest.fixture
def scanned():
    hu = np.arange(5, dtype=np.int16)[:, None, None] ** 2 * np.ones((5, 4, 4), np.int16)
    return Volume(hu, (1.0, 1.0, 1.0), "case", "")


@pytest.mark.parametrize(("apart", "wanted"), [(1, [1, 2, 5, 10, 9]), (2, [4, 9, 8, 1, 4])])
def test_scans_as_they_are_are_compared_with_the_mean_of_the_slices_on_either_side(
    scanned, apart, wanted
):
    found = AsScanned(apart).reference(scanned, slice(None))
    assert found[:, 0, 0].tolist() == wanted
    middle = AsScanned(apart).reference(scanned, slice(1, 3))
    np.testing.assert_array_equal(middle, found[1:3])


def test_scans_as_they_are_get_no_noise(scanned):
    noise, window = AsScanned(), Window()
    assert noise.recording(scanned) is scanned.hu
    noisy = noise.noisy(scanned, np.empty((2, 4, 4), np.float32), window, seed=0, first=3)
    np.testing.assert_array_equal(noisy, window.unit(scanned.hu[3:]))


def test_a_scan_without_neighbours_is_refused_for_validation(scanned):
    with pytest.raises(BadInput, match="case: has 5 slices, too few for validation against"):
        AsScanned(3).reference(scanned, slice(None))
    with pytest.raises(ValueError, match="must be at least 1, not 0"):
        AsScanned(0)
