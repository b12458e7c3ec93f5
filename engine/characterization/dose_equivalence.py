"""Dose equivalence: the dose at which a method detects what full dose shows without it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.characterization.characteristics import Characteristics
from engine.characterization.hotelling import Array, percentiles


@dataclass(frozen=True)
class EquivalentDose:
    """The dose of equal detectability, in photons per ray.

    Attributes:
        photons: infinite if the method does not reach it at any dose that was measured.
        low, high: 95 % interval over resampled images; infinite as above.
        lowest: the smallest dose that was measured. A dose equal to it is an upper bound.
    """

    photons: float
    low: float
    high: float
    lowest: float


@dataclass(frozen=True)
class Change:
    """A change against the reconstruction at the same dose, with its 95 % interval."""

    value: float
    low: float
    high: float


def equivalent_dose(
    by_dose: Mapping[float, Characteristics], full: Characteristics, names: Sequence[str]
) -> EquivalentDose:
    """The dose at which the mean d' over rods equals that of the reconstruction at full dose.

    d' is interpolated between doses, linearly in the logarithm of the dose, never beyond them.

    Args:
        by_dose: a method at every dose.
        full: the reconstruction at the highest dose.
        names: of the rods.
    """
    doses = np.array(sorted(by_dose))
    values = np.array([_mean_d(by_dose[dose], names) for dose in doses])
    samples = np.stack([_d_samples(by_dose[dose], names) for dose in doses])
    wanted, wanted_samples = _mean_d(full, names), _d_samples(full, names)
    found = _crossing(doses, values, wanted)
    drawn = [
        _crossing(doses, one, target) for one, target in zip(samples.T, wanted_samples, strict=True)
    ]
    # A percentile between a number and infinity would be neither.
    low, high = (sorted(drawn)[round(share * (len(drawn) - 1))] for share in (0.025, 0.975))
    return EquivalentDose(found, low, high, float(doses[0]))


def _crossing(doses: Array, values: Array, wanted: float) -> float:
    """The lowest dose from which on a curve reaches a value, infinite if it does not."""
    below = np.flatnonzero(~(values >= wanted))
    if not below.size:
        return float(doses[0])
    i = int(below[-1]) + 1
    if i == len(doses):
        return math.inf
    share = (wanted - values[i - 1]) / (values[i] - values[i - 1])
    step = math.log(doses[i] / doses[i - 1])
    return float(doses[i - 1] * math.exp(share * step))


def mean_auc(one: Characteristics, names: Sequence[str]) -> float:
    """The mean AUC over rods."""
    return float(np.mean([one.detected[name].hotelling.auc for name in names]))


def auc_change(one: Characteristics, other: Characteristics, names: Sequence[str]) -> Change:
    """The change of the mean AUC over rods; images, splits and resamples are paired."""
    return _change(*((mean_auc(c, names), _auc_samples(c, names)) for c in (one, other)))


def d_change(one: Characteristics, other: Characteristics, names: Sequence[str]) -> Change:
    """The change of the mean d' over rods; images, splits and resamples are paired."""
    return _change(*((_mean_d(c, names), _d_samples(c, names)) for c in (one, other)))


def _change(one: tuple[float, Array], other: tuple[float, Array]) -> Change:
    return Change(one[0] - other[0], *percentiles(one[1] - other[1]))


def _mean_d(one: Characteristics, names: Sequence[str]) -> float:
    return float(np.mean([one.detected[name].hotelling.d_prime for name in names]))


def _d_samples(one: Characteristics, names: Sequence[str]) -> Array:
    found = [one.detected[name].hotelling.d_samples for name in names]
    return np.asarray(np.mean(found, axis=0))


def _auc_samples(one: Characteristics, names: Sequence[str]) -> Array:
    found = [one.detected[name].hotelling.auc_samples for name in names]
    return np.asarray(np.mean(found, axis=0))
