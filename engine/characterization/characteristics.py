"""Characteristics: everything that is measured of one method at one dose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.characterization.hotelling import (
    Detectability,
    channel_outputs,
    hotelling,
    laguerre_gauss,
)
from engine.characterization.hu_accuracy import HuAccuracy, hu_accuracy, nonuniformity_hu
from engine.characterization.non_prewhitening import non_prewhitening
from engine.characterization.stack_blocks import standard_error
from engine.characterization.task_transfer import TaskTransfer, point_transfer, task_transfer
from engine.scoring.noise_power import NoisePower, noise_power
from volumes.phantoms.rods import REGION_OF_DIAMETER, Rod, RodPhantom
from volumes.volume import Unit

_REGION, _REGION_OFFSET = 0.22, 0.25  # side and offset of noise regions, of the body's diameter
_POINT_MM = 1.0  # thinner rods are points
_PSNR_RANGE_HU = 1400.0  # the width of the usual window

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DetectedRod:
    """How well a rod, or a lesion in a real slice, is detected.

    Attributes:
        rod: what is detected.
        hotelling: by the channelised Hotelling observer, from images.
        npw: d' of the non-prewhitening observer; NaN without a transfer function.
        npwe: the same with an eye filter.
    """

    rod: Rod
    hotelling: Detectability
    npw: float = math.nan
    npwe: float = math.nan


@dataclass(frozen=True, eq=False)
class Characteristics:
    """What is measured of one method at one dose.

    Attributes:
        method: its label.
        photons: per ray.
        noise: noise power spectrum of the uniform module.
        nonuniformity_hu: of its mean.
        transfers: task transfer functions by insert.
        hu: HU accuracy by insert.
        rods: of the low-contrast module, by name.
        psnr_db: of the low-contrast module within its body, against its true HU.
        lesions: in the real slice, by name; empty without one.
        slice_psnr_db: of that slice; NaN without one.
        reach: number of slices on each side that an estimate depends on.
        pictures: one realisation of the low-contrast module, and the mean of all.
    """

    method: str
    photons: float
    noise: NoisePower
    nonuniformity_hu: float
    transfers: Mapping[str, TaskTransfer]
    hu: Mapping[str, HuAccuracy]
    rods: Mapping[str, DetectedRod]
    psnr_db: float
    lesions: Mapping[str, DetectedRod] = field(default_factory=dict)
    slice_psnr_db: float = math.nan
    reach: int = 0
    pictures: tuple[Unit, Unit] | None = None

    @property
    def detected(self) -> dict[str, DetectedRod]:
        """Rods and lesions."""
        return {**self.rods, **self.lesions}


def noise_of(stack_hu: Unit, phantom: RodPhantom, pixel_mm: float, reach: int = 0) -> NoisePower:
    """The noise power spectrum of a uniform phantom: five regions of every realisation.

    The mean over realisations is subtracted: what is the same in every image is no noise. This
    takes the variance of the mean, which is added again: 1 / N of the noise's variance if the
    realisations are independent, more if neighbours share noise.

    Args:
        stack_hu: (N, Y, X) realisations, at least 2, and at least 4 reach + 2.
        phantom: whose body gives the place of the regions.
        pixel_mm: width of the pixels.
        reach: number of slices on each side that a realisation depends on.
    """
    size = stack_hu.shape[-1]
    far, side = _REGION_OFFSET * phantom.diameter_mm, _REGION * phantom.diameter_mm
    noise = []
    for x, y in ((0.0, 0.0), (far, 0.0), (-far, 0.0), (0.0, far), (0.0, -far)):
        rows, columns = Rod("a noise region", x, y, side, 0.0).region(size, pixel_mm, side)
        regions = stack_hu[:, rows, columns].astype(np.float64)
        noise.append((regions - regions.mean(axis=0)) * _restored(regions, reach))
    return noise_power(np.concatenate(noise), (pixel_mm, pixel_mm), trend=None)


def _restored(regions: npt.NDArray[np.float64], reach: int) -> float:
    """The factor for deviations from the mean over images, which has a variance of its own."""
    count = len(regions)
    if not reach:
        return math.sqrt(count / (count - 1))
    left = float(regions.var(axis=0).mean())
    taken = standard_error(regions, reach) ** 2
    return math.sqrt(1 + taken / left) if left else 1.0


def transfers_of(
    stack_hu: Unit, phantom: RodPhantom, pixel_mm: float, reach: int = 0
) -> dict[str, TaskTransfer]:
    """The task transfer function of every rod, from the mean over realisations."""
    mean = stack_hu.mean(axis=0, dtype=np.float64)
    found = {}
    for rod in phantom.rods:
        if rod.diameter_mm < _POINT_MM:
            found[rod.name] = point_transfer(mean, rod, pixel_mm)
            continue
        near = rod.distance_mm(len(mean), pixel_mm) < 2 * rod.radius_mm
        noise = standard_error(stack_hu[:, near], reach)
        found[rod.name] = task_transfer(mean, rod, pixel_mm, noise)
    return found


def hu_of(
    stack_hu: Unit, phantom: RodPhantom, pixel_mm: float, reach: int = 0
) -> dict[str, HuAccuracy]:
    """The HU accuracy of every rod that is wider than a point."""
    return {
        rod.name: hu_accuracy(stack_hu, rod, pixel_mm, reach)
        for rod in phantom.rods
        if rod.diameter_mm >= _POINT_MM
    }


def uniformity_of(stack_hu: Unit, phantom: RodPhantom, pixel_mm: float) -> float:
    """The nonuniformity in HU of the mean over realisations."""
    return nonuniformity_hu(stack_hu.mean(axis=0, dtype=np.float64), phantom.body, pixel_mm)


def transfer_for(contrast_hu: float, transfers: Mapping[str, TaskTransfer]) -> TaskTransfer | None:
    """The measurable transfer function whose contrast is nearest to one, None if there is none."""
    usable = [one for one in transfers.values() if one.measurable]
    return min(usable, key=lambda one: abs(abs(one.contrast_hu) - abs(contrast_hu)), default=None)


def detected_rods(
    present_hu: Unit, absent_hu: Unit, rods: tuple[Rod, ...], pixel_mm: float, key: str, seed: int,
    reach: int = 0,
) -> dict[str, DetectedRod]:  # fmt: skip
    """The rods as the channelised Hotelling observer detects them.

    Args:
        present_hu: (N, Y, X) realisations with all rods.
        absent_hu: (N, Y, X) independent realisations without any.
        rods: apart from each other by more than the region of an observer, which is three times as
            wide as the largest of them.
        pixel_mm: width of the pixels.
        key: of the random splits.
        seed: of the random splits.
        reach: see `hotelling`.
    """
    side_mm = REGION_OF_DIAMETER * max(rod.diameter_mm for rod in rods)
    found = {}
    for rod in rods:
        rows, columns = rod.region(present_hu.shape[-1], pixel_mm, side_mm)
        channels = laguerre_gauss(rows.stop - rows.start, pixel_mm, rod.diameter_mm)
        with_rod, without = (
            channel_outputs(stack[:, rows, columns], channels) for stack in (present_hu, absent_hu)
        )
        seen = hotelling(with_rod, without, seed, key, rod.name, reach=reach)
        found[rod.name] = DetectedRod(rod, seen)
    return found


def with_theory(
    rods: Mapping[str, DetectedRod], noise: NoisePower, transfers: Mapping[str, TaskTransfer],
    background_hu: float,
) -> dict[str, DetectedRod]:  # fmt: skip
    """The rods with d' of the non-prewhitening observers, from transfer and noise."""
    found = {}
    for name, one in rods.items():
        contrast = one.rod.hu - background_hu
        transfer = transfer_for(contrast, transfers)
        values = {
            observer: non_prewhitening(
                noise, transfer, one.rod.diameter_mm, contrast, eye=observer == "npwe"
            )
            for observer in ("npw", "npwe")
            if transfer is not None
        }
        found[name] = DetectedRod(one.rod, one.hotelling, **values)
    return found


def psnr_db(stack_hu: Unit, true_hu: npt.NDArray[Any], inside: Mask) -> float:
    """PSNR of all realisations within a mask; the data range is 1400 HU."""
    error = stack_hu[:, inside] - true_hu[inside]
    mse = float(np.mean(np.square(error, dtype=np.float64)))
    return 10 * math.log10(_PSNR_RANGE_HU**2 / mse) if mse else math.inf
