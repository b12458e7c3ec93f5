"""Statistics over cases: how sure a mean is, and whether two methods differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from volumes import draws

_RESAMPLES = 9999


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of the mean (Efron, 1979), the same every time.

    Returns:
        None where there are fewer than 2 cases to draw from.
    """
    if len(values) < 2:
        return None
    found = stats.bootstrap(
        (np.asarray(values),), np.mean, n_resamples=_RESAMPLES, method="percentile",
        rng=draws.rng(0, "bootstrap"),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def paired(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The p-value that two methods score alike on the same cases, by flipping signs.

    A permutation test of the mean difference; with n cases it cannot fall below 2 / 2^n.

    Returns:
        None where there are fewer than 2 cases.
    """
    if len(one) < 2:
        return None
    found = stats.permutation_test(
        (np.asarray(one), np.asarray(other)),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        vectorized=False,
        rng=draws.rng(0, "permutation"),
    )
    return float(found.pvalue)
