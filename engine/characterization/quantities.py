"""Quantities of a characterisation as rows, for CSV, JSON and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.characterization.characteristics import Characteristics
from engine.characterization.dose_equivalence import EquivalentDose
from engine.comparison.methods import RECONSTRUCTION

Found = Mapping[str, Mapping[float, Characteristics]]
Doses = Mapping[tuple[str, str], EquivalentDose]  # by method and by what is detected


@dataclass(frozen=True)
class Quantity:
    """One number of a method at a dose.

    Attributes:
        method: its label.
        photons: per ray.
        name: with its unit, such as "noise_hu".
        of: insert, rod or lesion; empty for the whole image.
        value: NaN if it could not be measured.
        low, high: 95 % interval, NaN without one.
    """

    method: str
    photons: float
    name: str
    of: str
    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class CurvePoint:
    """One point of a noise power spectrum or a task transfer function."""

    method: str
    photons: float
    curve: str
    of: str
    frequency_per_mm: float
    value: float


def quantities(found: Found) -> list[Quantity]:
    """Every number, method by method and dose by dose."""
    return [
        Quantity(label, photons, *row)
        for label, by_dose in found.items()
        for photons, one in by_dose.items()
        for row in _rows(one, found[RECONSTRUCTION][photons])
    ]


def _rows(
    one: Characteristics, reconstruction: Characteristics
) -> Iterator[tuple[str, str, float, float, float]]:
    none = (math.nan, math.nan)
    noise, before = one.noise, reconstruction.noise
    yield "noise_hu", "", noise.sigma_hu, *none
    yield "noise_ratio", "", noise.sigma_hu / before.sigma_hu, *none
    yield "nps_peak_per_mm", "", noise.peak_per_mm, *none
    yield "nps_mean_per_mm", "", noise.mean_per_mm, *none
    yield "nps_mean_ratio", "", noise.mean_per_mm / before.mean_per_mm, *none
    yield "nonuniformity_hu", "", one.nonuniformity_hu, *none
    yield "psnr_db", "", one.psnr_db, *none
    if one.lesions:
        yield "slice_psnr_db", "", one.slice_psnr_db, *none
    for name, transfer in one.transfers.items():
        yield "ttf50_per_mm", name, transfer.frequency_at(0.5), *none
        yield "ttf10_per_mm", name, transfer.frequency_at(0.1), *none
        yield "ttf_cnr", name, transfer.cnr, *none
    for name, hu in one.hu.items():
        half = hu.half_width_hu
        yield "hu_bias", name, hu.bias_hu, hu.bias_hu - half, hu.bias_hu + half
    for name, rod in one.detected.items():
        seen = rod.hotelling
        yield "auc", name, seen.auc, *seen.auc_interval
        yield "auc_resubstituted", name, seen.resubstituted_auc, *none
        yield "d_prime", name, seen.d_prime, *seen.d_interval
        if name in one.rods:
            yield "d_prime_npw", name, rod.npw, *none
            yield "d_prime_npwe", name, rod.npwe, *none


def curve_points(found: Found) -> list[CurvePoint]:
    """Every point of the radial noise power spectra and of the task transfer functions."""
    points = []
    for label, by_dose in found.items():
        for photons, one in by_dose.items():
            curves = [("nps_hu2_mm2", "", *one.noise.radial)]
            for name, transfer in one.transfers.items():
                curves.append(("ttf", name, transfer.frequency_per_mm, transfer.transfer))
            points += [
                CurvePoint(label, photons, curve, of, float(f), float(value))
                for curve, of, frequency, values in curves
                for f, value in zip(frequency, values, strict=True)
            ]
    return points
