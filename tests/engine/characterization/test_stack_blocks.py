"""Blocks of a stack: no half shares noise with the other, and errors are those of the truth."""

import numpy as np
import pytest

from engine.characterization.stack_blocks import (
    halves,
    resamples,
    standard_error,
    student_quantile,
)
from volumes import random_draws

RNG = random_draws.rng(0, "test of the blocks of a stack")


def averaged(count: int, reach: int) -> np.ndarray:
    """Means of neighbours: (count,) of unit variance before."""
    alone = RNG.standard_normal(count + 2 * reach)
    return np.convolve(alone, np.ones(2 * reach + 1) / (2 * reach + 1), "valid")


@pytest.mark.parametrize("reach", [1, 4])
def test_no_image_of_a_half_shares_noise_with_the_other_half(reach) -> None:
    for _ in range(200):
        one, other = halves(88, RNG, reach)
        # Two images of one slice: reach + reach apart.
        assert np.abs(one[:, None] - other).min() > 2 * reach
        assert min(len(one), len(other)) >= 44 - 2 * reach


def test_without_a_reach_every_image_is_in_one_half() -> None:
    one, other = halves(21, RNG, 0)
    assert sorted([*one, *other]) == list(range(21))


def test_a_resample_holds_blocks_and_weighs_all_images_alike() -> None:
    drawn = resamples(270, 2000, RNG, 4)
    assert (drawn.sum(axis=1) == 270).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.1)
    # Neighbours lie in 26 of 27 blocks together, images 27 apart in none, of 10 blocks.
    assert np.corrcoef(drawn[:, 10], drawn[:, 11])[0, 1] == pytest.approx(26 / 27, abs=0.03)
    assert np.corrcoef(drawn[:, 10], drawn[:, 37])[0, 1] == pytest.approx(-1 / 9, abs=0.06)


@pytest.mark.parametrize(("reach", "count"), [(1, 63), (1, 200), (4, 189), (4, 200)])
def test_the_error_of_a_mean_over_images_that_share_noise_is_the_true_one(reach, count) -> None:
    stacks = [averaged(count, reach) for _ in range(1500)]
    means = np.array([stack.mean() for stack in stacks])
    claimed = np.array([standard_error(stack, reach) for stack in stacks])
    # 1500 stacks know a standard deviation to 2 %. Blocks of 2 reach + 1 find 0.82 of it.
    assert np.sqrt(np.mean(claimed**2)) == pytest.approx(np.std(means), rel=0.06)
    covered = np.abs(means) < student_quantile(count, reach) * claimed
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)  # 0.87 with 1.96 and such blocks
    assert np.mean([standard_error(stack, 0) for stack in stacks]) < 0.7 * np.std(means)


def test_the_error_of_a_mean_is_never_below_that_of_independent_images() -> None:
    # Differences of neighbours: the autocovariances sum up to nothing.
    values = np.diff(RNG.standard_normal(200))
    assert standard_error(values, 1) == standard_error(values, 0)


def test_the_error_of_pixels_is_their_root_mean_square() -> None:
    pixels = np.stack([averaged(100, 2) for _ in range(6)], axis=1)
    each = [standard_error(pixels[:, i], 2) for i in range(6)]
    expected = np.sqrt(np.mean(np.square(each)))
    assert standard_error(pixels.reshape(100, 2, 3), 2) == pytest.approx(expected)


@pytest.mark.parametrize("reach", [1, 4])
def test_resamples_scatter_nearly_as_the_truth_does(reach) -> None:
    count = 250 * (2 * reach + 1)  # so that the scatter about their own mean is hardly smaller
    stacks = np.stack([averaged(count, reach) for _ in range(1000)], axis=1)
    drawn = resamples(count, 300, RNG, reach)
    samples = drawn @ stacks / drawn.sum(axis=1, keepdims=True)
    found = np.sqrt(np.mean(samples.var(axis=0))) / np.std(stacks.mean(axis=0))
    # Blocks of three lengths lose a ninth of the variance, those of one length a third (0.82).
    assert found == pytest.approx(np.sqrt(8 / 9), abs=0.05)


def test_without_a_reach_the_images_are_independent() -> None:
    values = RNG.standard_normal(20)
    assert standard_error(values, 0) == float(values.std(ddof=1)) / np.sqrt(20)
    assert np.isnan(standard_error(values[:1], 0))
    assert student_quantile(20, 0) == pytest.approx(2.093, abs=0.001)
    assert (resamples(20, 50, RNG, 0).sum(axis=1) == 20).all()
