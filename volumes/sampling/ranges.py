"""Ranges: a number, or two ends between which each training example draws its own."""

from __future__ import annotations

import math

import numpy as np

Range = float | tuple[float, float]


def ends(value: Range) -> tuple[float, float]:
    """The two ends of a range; equal for a single number."""
    return value if isinstance(value, tuple) else (value, value)


def between(value: Range, rng: np.random.Generator, *, log: bool = False) -> float:
    """A number drawn from a range, uniformly or log-uniformly. A single number is returned."""
    low, high = ends(value)
    if low == high:
        return low
    if log:
        return math.exp(rng.uniform(math.log(low), math.log(high)))
    return float(rng.uniform(low, high))


def middle(value: Range, *, log: bool = False) -> float:
    """The arithmetic or the geometric mean of the two ends."""
    low, high = ends(value)
    if low == high:
        return low
    return math.sqrt(low * high) if log else (low + high) / 2
