import itertools

import numpy as np
import pytest

from engine.report.statistics import interval, paired, smallest_p


def by_flipping(one, other):
    """The two-sided p-value by trying all signs of all differences."""
    difference = np.subtract(one, other)
    means = [
        np.mean(difference * signs) for signs in itertools.product((1, -1), repeat=len(difference))
    ]
    observed = np.mean(difference)
    above = np.mean([mean >= observed - 1e-12 for mean in means])
    below = np.mean([mean <= observed + 1e-12 for mean in means])
    return min(1, 2 * min(above, below))


# -- The interval ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_contains_the_mean(seed):
    values = np.random.default_rng(seed).normal(30, 2, 7)
    low, high = interval(values)
    assert min(values) <= low < np.mean(values) < high <= max(values)


def test_the_interval_is_the_same_every_time():
    values = np.random.default_rng(0).normal(30, 2, 40)
    assert interval(values) == interval(values)


def test_the_interval_of_two_cases_is_their_range():
    # A quarter of the resamples is one case twice, a quarter the other: more than 2.5 %.
    assert interval([31.0, 29.5]) == (29.5, 31.0)


def test_the_interval_of_many_cases_is_that_of_the_normal_law():
    values = np.random.default_rng(0).normal(0, 1, 400)
    half = 1.96 * values.std(ddof=1) / 20
    assert interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_equal_cases_have_an_interval_of_no_width():
    assert interval([30.0, 30.0, 30.0]) == (30.0, 30.0)


def test_one_case_has_no_interval():
    assert interval([30.0]) is None


# -- The paired test -------------------------------------------------------------------------------


@pytest.mark.parametrize("cases", range(2, 9))
def test_the_p_value_of_a_method_that_always_wins_is_2_over_2_to_the_cases(cases):
    values = np.arange(1.0, cases + 1)
    assert paired(values + 100, np.zeros(cases)) == pytest.approx(2 / 2**cases)


@pytest.mark.parametrize("seed", range(5))
def test_the_p_value_is_that_of_all_flips_of_signs(seed):
    one, other = np.random.default_rng(seed).normal(30, 1, (2, 6))
    assert paired(one, other) == pytest.approx(by_flipping(one, other))


def test_the_p_value_of_a_mixed_result_equals_a_calculation_by_hand():
    # Sums of the flipped differences 1, 2, -1: 4, 2, 2, 0, 0, -2, -2, -4; three of 8 reach 2.
    assert paired([31.0, 32.0, 29.0], [30.0, 30.0, 30.0]) == pytest.approx(2 * 3 / 8)


@pytest.mark.parametrize("cases", [14, 20])
def test_the_p_value_of_more_cases_than_can_be_tried_is_small_and_the_same_every_time(cases):
    values = np.arange(1.0, cases + 1)
    found = paired(values, np.zeros(cases))
    assert 2 / 2**cases <= found < 0.001
    assert paired(values, np.zeros(cases)) == found


def test_the_p_value_of_equal_scores_is_1():
    assert paired([30.0, 31.0, 29.0], [30.0, 31.0, 29.0]) == 1


def test_which_method_is_named_first_does_not_matter():
    one, other = np.random.default_rng(0).normal(30, 1, (2, 5))
    assert paired(one, other) == pytest.approx(paired(other, one))


def test_pairs_count_not_the_spread_of_cases():
    cases = np.array([20.0, 25, 30, 35, 40, 45, 50, 55])
    assert paired(cases + 0.1, cases) == pytest.approx(2 / 2**8)


def test_one_case_cannot_be_tested():
    assert paired([30.0], [20.0]) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_finite_has_neither_interval_nor_test(bad):
    assert interval([30.0, bad, 31.0]) is None
    assert paired([30.0, bad, 31.0], [20.0, 21.0, 22.0]) is None
    assert paired([30.0, 31.0, 32.0], [20.0, 21.0, bad]) is None


@pytest.mark.parametrize("cases", [2, 3, 7, 13, 14, 20])
def test_the_smallest_p_is_that_of_a_method_that_is_better_on_every_case(cases):
    values = np.arange(1.0, cases + 1) ** 3
    found = paired(values + 1e6, np.zeros(cases))
    if cases < 14:  # all flips are tried
        assert found == pytest.approx(smallest_p(cases))
    else:  # some flips are drawn, and may find the observed one again
        assert smallest_p(cases) <= found < 2 * 2 / 2**13


def test_one_case_allows_no_p():
    assert smallest_p(1) is None
