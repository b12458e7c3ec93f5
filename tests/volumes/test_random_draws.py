from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from volumes import random_draws

SHAPE = (40, 64, 64)
KEYS = [(0, "crop", 5), (5, "crop", 0), (0, "noise", 5), (0, "crop", 6), (0, "crop", "5"),
        (0, "crop", "case_00005", 5), (0, "crop", 5, "case_00005"), (0, "crop", 5, 5)]  # fmt: skip


@pytest.fixture(scope="module")
def sample(cpu):
    return (
        random_draws.normal(SHAPE, random_draws.device_key(0, "noise", 7))
        .numpy()
        .astype(np.float64)
    )


def test_the_same_key_draws_the_same_numbers():
    np.testing.assert_array_equal(
        random_draws.rng(3, "crop", "a", 1).random(100),
        random_draws.rng(3, "crop", "a", 1).random(100),
    )


@pytest.mark.parametrize(("one", "other"), list(combinations(KEYS, 2)))
def test_seed_purpose_and_key_separate_streams(one, other):
    assert not (random_draws.rng(*one).random(8) == random_draws.rng(*other).random(8)).any()


@pytest.mark.parametrize(("one", "other"), list(combinations(KEYS, 2)))
def test_seed_purpose_and_key_separate_the_keys_of_the_accelerator(one, other):
    assert (random_draws.device_key(*one) != random_draws.device_key(*other)).any()


def test_streams_of_neighbouring_examples_are_uncorrelated():
    rows = np.stack([random_draws.rng(0, "crop", i).standard_normal(20_000) for i in range(5)])
    off_diagonal = np.corrcoef(rows)[np.triu_indices(5, 1)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(20_000)


def test_a_draw_depends_on_no_earlier_draw():
    alone = random_draws.rng(0, "crop", 3).random()
    random_draws.rng(0, "crop", 2).random(1000)
    assert random_draws.rng(0, "crop", 3).random() == alone


def test_the_keys_of_ten_thousand_examples_are_all_different():
    keys = {tuple(random_draws.device_key(0, "noise", i).tolist()) for i in range(10_000)}
    assert len(keys) == 10_000


def test_a_key_of_the_accelerator_is_two_int32():
    key = random_draws.device_key(0, "noise", 7)
    assert key.shape == (2,)
    assert key.dtype == np.int32


def test_normal_numbers_have_mean_0_and_variance_1(sample):
    n = sample.size
    assert abs(sample.mean()) < 5 / np.sqrt(n)
    assert abs(sample.var() - 1) < 5 * np.sqrt(2 / n)


def test_normal_numbers_have_no_skew_and_kurtosis_3(sample):
    n = sample.size
    assert abs(stats.skew(sample, axis=None)) < 5 * np.sqrt(6 / n)
    assert abs(stats.kurtosis(sample, axis=None, fisher=False) - 3) < 5 * np.sqrt(24 / n)


def test_normal_numbers_follow_the_normal_distribution(sample):
    assert stats.kstest(sample.ravel(), "norm").pvalue > 1e-3


def test_normal_numbers_have_tails_beyond_four_sigma(sample):
    expected = 2 * stats.norm.sf(4) * sample.size
    assert 0 < np.count_nonzero(np.abs(sample) > 4) < 4 * expected


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_neighbouring_normal_numbers_are_uncorrelated(sample, axis):
    shifted = np.roll(sample, 1, axis)
    assert abs(np.corrcoef(sample.ravel(), shifted.ravel())[0, 1]) < 5 / np.sqrt(sample.size)


def test_other_keys_give_uncorrelated_normal_numbers(sample):
    for other in (random_draws.device_key(0, "noise", 8), random_draws.device_key(7, "noise", 0)):
        noise = random_draws.normal(SHAPE, other).numpy()
        r = np.corrcoef(sample.ravel(), noise.ravel())[0, 1]
        assert abs(r) < 5 / np.sqrt(sample.size)


def test_normal_numbers_are_finite_float32_of_any_shape(cpu):
    for shape in ((1,), (1, 1, 1, 1), (17, 19, 13), (3, 0, 2)):
        noise = random_draws.normal(shape, random_draws.device_key(1, "noise", 0)).numpy()
        assert noise.shape == shape
        assert noise.dtype == np.float32
        assert np.isfinite(noise).all()


def test_a_graph_draws_the_same_normal_numbers_as_eager_code(cpu, sample):
    import tensorflow as tf

    graph = tf.function(lambda key: random_draws.normal(SHAPE, key))
    noise = graph(tf.constant(random_draws.device_key(0, "noise", 7))).numpy()
    np.testing.assert_allclose(noise, sample, atol=1e-6)
