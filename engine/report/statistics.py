"""Statistics over cases: confidence intervals and paired tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from volumes import random_draws

_RESAMPLES = 9999


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of the mean (Efron, 1979), with a fixed seed.

    Returns:
        None with fewer than 2 cases, or if a score is not finite.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    found = stats.bootstrap(
        (np.asarray(values),), np.mean, n_resamples=_RESAMPLES, method="percentile",
        rng=random_draws.rng(0, "bootstrap"),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def paired(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The p-value of a two-sided sign-flip permutation test of two methods on the same cases.

    It tests the mean of the paired differences. `smallest_p` is the least possible value.

    Returns:
        None with fewer than 2 cases, or if a score is not finite.
    """
    if len(one) < 2 or not np.isfinite([one, other]).all():
        return None
    found = stats.permutation_test(
        (np.asarray(one), np.asarray(other)),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        vectorized=False,
        rng=random_draws.rng(0, "permutation"),
    )
    return float(found.pvalue)


def smallest_p(cases: int) -> float | None:
    """The least p-value of `paired`: 2 / 2^n, or 2 / (resamples + 1) for many cases.

    Returns:
        None with fewer than 2 cases.
    """
    if cases < 2:
        return None
    return 2 / 2**cases if 2**cases <= _RESAMPLES else 2 / (_RESAMPLES + 1)
