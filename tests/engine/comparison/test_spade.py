"""SPADE against independent solvers."""

import itertools

import numpy as np
import pytest
from skimage.restoration import denoise_tv_chambolle

from engine.comparison.spade import Spade
from engine.errors import BadUsage
from engine.scoring.metrics import scores
from tests.volumes.test_total_variation import differences
from volumes import Window
from volumes.total_variation import minimiser

SIGMA = 0.1
SPACING_MM = (3.0, 0.8, 0.7)
WINDOW = Window()


@pytest.fixture(autouse=True)
def _tensorflow(cpu):
    """The solver is TensorFlow's."""


@pytest.fixture(scope="module")
def clean(phantom_hu):
    """A block of a phantom in window units, of three different lengths."""
    return np.clip(WINDOW.unit(phantom_hu[2:8, 12:52, 14:50]), 0, 1)


@pytest.fixture(scope="module")
def noisy(clean):
    noise = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    return clean + np.float32(SIGMA) * noise


def estimate(method, noisy, prior, sigma=SIGMA):
    return method.estimate(noisy, sigma, SPACING_MM, prior)


def psnr_db(clean, estimate):
    return scores(clean, estimate, WINDOW).psnr_db


def lengths(slope):
    return np.sqrt(np.sum(slope.reshape(3, -1) ** 2, axis=0))


def energy(u, noisy, prior, alpha, beta, weight_z):
    d = differences(u.shape, weight_z)
    u, noisy, prior = (image.astype(np.float64).ravel() for image in (u, noisy, prior))
    sparse, similar = lengths(d @ u).sum(), lengths(d @ (u - prior)).sum()
    return alpha * sparse + beta * similar + np.sum((u - noisy) ** 2) / 2


def split_bregman(noisy, prior, alpha, beta, weight_z, iterations=1500):
    """The same minimiser by alternating directions and exact solves, in float64."""
    d = differences(noisy.shape, weight_z)
    f, slope = noisy.astype(np.float64).ravel(), d @ prior.astype(np.float64).ravel()
    penalty = 10 * (alpha + beta)
    inverse = np.linalg.inv(np.eye(f.size) + 2 * penalty * d.T @ d)
    v = w = b = c = np.zeros(3 * f.size)

    def shrink(field, by):
        length = np.tile(lengths(field), 3)
        return field * np.maximum(1 - by / np.maximum(length, 1e-300), 0)

    for _ in range(iterations):
        u = inverse @ (f + penalty * d.T @ (v - b + w - c + slope))
        v = shrink(d @ u + b, alpha / penalty)
        w = shrink(d @ u - slope + c, beta / penalty)
        b, c = b + d @ u - v, c + d @ u - slope - w
    return u.reshape(noisy.shape)


@pytest.mark.parametrize("depth", [1, 6])
def test_without_a_say_for_the_prior_it_is_total_variation(clean, noisy, depth):
    expected = denoise_tv_chambolle(
        noisy[:depth].astype(np.float64), weight=0.06, eps=1e-9, max_num_iter=2000
    )
    method = Spade(alpha=0.6, beta=0.0, iterations=1000)
    found = estimate(method, noisy[:depth], 1 - clean[:depth])
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 2e-4
    assert np.sqrt(np.mean((found - noisy[:depth]) ** 2)) > 0.05


@pytest.mark.parametrize(("alpha", "beta", "weight_z"), [(0.4, 0.3, 1.0), (0.2, 0.6, 3.0)])
def test_its_energy_falls_to_that_of_exact_solves(noisy, clean, alpha, beta, weight_z):
    noisy, prior = noisy[:3, 10:16, 10:17], clean[1:4, 10:16, 10:17]
    weights = (alpha * SIGMA, beta * SIGMA, weight_z)
    best = split_bregman(noisy, prior, *weights)
    least = energy(best, noisy, prior, *weights)
    found = [
        estimate(Spade(alpha, beta, weight_z, iterations), noisy, prior)
        for iterations in (0, 3, 10, 100, 1000)
    ]
    energies = [energy(u, noisy, prior, *weights) for u in found]
    assert all(after < before for before, after in itertools.pairwise(energies[:4]))
    assert energies[0] > 1.2 * least
    assert energies[3] == pytest.approx(least, rel=1e-3)
    assert energies[4] == pytest.approx(least, rel=2e-5)
    np.testing.assert_allclose(found[4], best, atol=1e-3)


@pytest.mark.parametrize("weight_z", [0.5, 1.0, 2.0])
def test_steps_are_short_enough_where_no_dual_reaches_its_bound(weight_z):
    # Then the iteration is linear, and with too small a norm the finest pattern diverges.
    noisy = np.indices((8, 8, 8)).sum(0).astype(np.float32) % 2
    method = Spade(alpha=1e4, beta=1e4, weight_z=weight_z, iterations=200)
    np.testing.assert_allclose(estimate(method, noisy, np.zeros_like(noisy)), 0.5, atol=1e-3)


def test_no_iteration_is_the_noisy_volume(clean, noisy):
    np.testing.assert_array_equal(estimate(Spade(iterations=0), noisy, clean), noisy)


def test_the_edges_of_the_truth_beat_total_variation(clean, noisy):
    blind = max(
        psnr_db(clean, estimate(Spade(alpha=alpha, beta=0.0), noisy, clean))
        for alpha in (0.5, 0.7, 0.9)
    )
    assert blind > psnr_db(clean, noisy) + 5
    told = psnr_db(clean, estimate(Spade(alpha=0.1, beta=3.0), noisy, clean))
    assert told > blind + 3


def test_only_the_gradient_of_the_prior_counts(clean, noisy):
    method = Spade()
    found = estimate(method, noisy, clean)
    np.testing.assert_allclose(estimate(method, noisy, clean + 0.5), found, atol=2e-5)
    assert np.abs(estimate(method, noisy, 0.5 * clean) - found).max() > 0.01


def test_nothing_is_smoothed_over_slices_that_weigh_nothing(clean, noisy):
    whole = estimate(Spade(weight_z=0.0), noisy, clean)
    one = estimate(Spade(weight_z=0.0), noisy[2:3], clean[2:3])
    np.testing.assert_allclose(whole[2:3], one, atol=1e-6)


def test_volumes_of_a_batch_do_not_see_each_other(tf, clean, noisy):
    images, priors = (tf.stack([a, a[::-1]])[..., None] for a in (noisy, clean))
    found = minimiser(images, ((0.04, None), (0.02, priors)), 1.0, 20)[..., 0].numpy()
    method = Spade(alpha=0.4, beta=0.2, iterations=20)
    np.testing.assert_allclose(found[0], estimate(method, noisy, clean), atol=1e-5)
    turned = estimate(method, noisy[::-1], clean[::-1])
    np.testing.assert_allclose(found[1], turned, atol=1e-5)


def test_parameters_are_multiples_of_sigma(clean, noisy):
    one = estimate(Spade(alpha=0.4, beta=0.2), noisy, clean)
    other = estimate(Spade(alpha=0.8, beta=0.4), noisy, clean, sigma=SIGMA / 2)
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_its_candidates_surround_the_weight_of_total_variation_and_use_the_prior():
    grid = Spade(iterations=30).candidates()
    assert len(set(grid)) == len(grid)
    assert {each.iterations for each in grid} == {30}
    sums = [each.alpha + each.beta for each in grid]
    assert min(sums) < 0.6 < max(sums)
    assert min(each.beta for each in grid) > 0


def test_without_a_prior_it_refuses(noisy):
    with pytest.raises(BadUsage, match=r"spade: needs a prior\. Choose a recipe that has one"):
        estimate(Spade(), noisy, None)
