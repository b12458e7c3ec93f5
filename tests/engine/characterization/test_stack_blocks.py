"""Blocks of a stack: no half shares noise with the other, and errors are those of the truth."""

import numpy as np
import pytest

from engine.characterization.stack_blocks import block_means, halves, resamples, standard_error
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
    drawn = resamples(90, 4000, RNG, 4)
    assert (drawn.sum(axis=1) == 90).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.1)
    # Neighbours lie in 8 of 9 blocks together, images 9 apart in none, of 10 blocks.
    assert np.corrcoef(drawn[:, 10], drawn[:, 11])[0, 1] == pytest.approx(8 / 9, abs=0.03)
    assert np.corrcoef(drawn[:, 10], drawn[:, 19])[0, 1] == pytest.approx(-1 / 9, abs=0.06)


def test_the_error_of_a_mean_over_images_that_share_noise_is_the_true_one() -> None:
    stacks = [averaged(200, 4) for _ in range(300)]
    true = np.std([stack.mean() for stack in stacks])
    claimed = np.sqrt(np.mean([standard_error(stack, 4) ** 2 for stack in stacks]))
    # Blocks of 9 miss what neighbouring blocks share: two thirds of the variance are found.
    assert claimed == pytest.approx(np.sqrt(2 / 3) * true, rel=0.1)
    assert np.mean([standard_error(stack, 0) for stack in stacks]) < 0.4 * true


def test_without_a_reach_the_images_are_the_blocks() -> None:
    values = RNG.standard_normal(20)
    assert block_means(values, 0) is values
    assert standard_error(values, 0) == float(values.std(ddof=1)) / np.sqrt(20)
    assert np.isnan(standard_error(values[:1], 0))
