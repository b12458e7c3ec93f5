"""Dose equivalence: interpolation between doses, and no dose where there is none."""

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.characterization.characteristics import Characteristics, DetectedRod
from engine.characterization.dose_equivalence import auc_change, d_change, equivalent_dose
from engine.characterization.hotelling import Detectability
from engine.scoring.noise_power import NoisePower
from volumes import random_draws
from volumes.phantoms.rods import Rod

SCATTER = random_draws.rng(0, "test of the dose equivalence").standard_normal(500)


def measured(photons: float, d_prime: float, scatter: float = 0.1) -> Characteristics:
    samples = d_prime + scatter * SCATTER
    auc = 0.5 + d_prime / 10
    seen = Detectability(auc, auc, d_prime, auc + scatter / 10 * SCATTER, samples)
    rods = {"rod": DetectedRod(Rod("rod", 0, 0, 5, 7), seen)}
    noise = NoisePower(np.ones((4, 4)), (1, 1), 1)
    return Characteristics("m", photons, noise, 0.0, {}, {}, rods, 30.0)


def series(*d_primes: float) -> dict[float, Characteristics]:
    doses = (1e5, 2e5, 1e6)
    return {dose: measured(dose, d) for dose, d in zip(doses, d_primes, strict=True)}


def test_the_reconstruction_equals_itself_at_full_dose() -> None:
    by_dose = series(1.0, 1.4, 3.0)
    found = equivalent_dose(by_dose, by_dose[1e6], ["rod"])
    assert (found.photons, found.low, found.high) == pytest.approx((1e6, 1e6, 1e6))


def test_the_dose_is_interpolated_in_its_logarithm() -> None:
    found = equivalent_dose(series(1.0, 2.0, 4.0), measured(1e6, 3.0, scatter=0.0), ["rod"])
    assert found.photons == pytest.approx(2e5 * math.sqrt(5))
    assert found.low < found.photons < found.high
    # d' of 0.1 moves the logarithm of the dose by 0.05 of log 5.
    assert math.log(found.high / found.low) == pytest.approx(2 * 1.96 * 0.05 * math.log(5), rel=0.1)


def test_a_method_that_never_detects_as_much_has_no_equal_dose() -> None:
    found = equivalent_dose(series(1.0, 1.5, 2.0), measured(1e6, 3.0), ["rod"])
    assert math.isinf(found.photons)
    assert math.isinf(found.high)


def test_a_dose_counts_only_if_no_higher_one_detects_less() -> None:
    found = equivalent_dose(series(3.5, 2.0, 4.0), measured(1e6, 3.0, scatter=0.0), ["rod"])
    assert found.photons == pytest.approx(2e5 * math.sqrt(5))
    assert math.isinf(equivalent_dose(series(2.0, 4.0, 2.5), measured(1e6, 3.0), ["rod"]).photons)


def test_no_dose_below_those_that_were_measured_is_claimed() -> None:
    found = equivalent_dose(series(3.5, 4.0, 5.0), measured(1e6, 3.0), ["rod"])
    assert found.photons == found.lowest == 1e5


def test_changes_are_paired() -> None:
    one, other = measured(1e5, 2.5), measured(1e5, 2.0)
    for change, value in (
        (d_change(one, other, ["rod"]), 0.5),
        (auc_change(one, other, ["rod"]), 0.05),
    ):
        # Both have the same scatter, so their difference has none.
        assert (change.value, change.low, change.high) == pytest.approx((value,) * 3)
    assert d_change(one, replace(one), ["rod"]).value == 0
