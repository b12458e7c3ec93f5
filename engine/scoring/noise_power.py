"""Noise power spectrum of regions of interest: how much noise there is at each frequency.

The convention is that of ICRU report 87 (2012), equation 11.1: the squared magnitude of the Fourier
transform of a region, without its mean, times the area of a pixel over the number of pixels,
averaged over regions. Its integral over frequency is the variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.volume import SpacingMm, Unit

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoisePower:
    """A noise power spectrum, in two dimensions and by radial frequency.

    Attributes:
        power_hu2_mm2: (Y, X), the frequency 0 at [Y // 2, X // 2].
        spacing_mm: distance of neighbouring pixels along (Y, X).
        regions: number of regions that were averaged.
    """

    power_hu2_mm2: Array
    spacing_mm: tuple[float, float]
    regions: int

    @cached_property
    def frequencies_per_mm(self) -> tuple[Array, Array]:
        """(Y,) and (X,) frequencies in cycles per mm."""
        shape = self.power_hu2_mm2.shape
        y, x = (
            np.fft.fftshift(np.fft.fftfreq(n, mm))
            for n, mm in zip(shape, self.spacing_mm, strict=True)
        )
        return y, x

    @cached_property
    def radial(self) -> tuple[Array, Array]:
        """Frequencies per mm, and the mean power in rings about 0, up to the Nyquist frequency.

        A ring is as wide as the coarser of the two frequency steps. The frequency 0 is left out:
        subtracting a mean or a trend removed its power. The frequency of a ring is the mean of
        those in it.
        """
        y, x = self.frequencies_per_mm
        distance = np.hypot(y[:, None], x)
        step = max(1 / (n * mm) for n, mm in zip(distance.shape, self.spacing_mm, strict=True))
        ring = np.rint(distance / step).astype(int)
        last = int(min(0.5 / mm for mm in self.spacing_mm) / step)
        inside = (ring >= 1) & (ring <= last)
        count = np.bincount(ring[inside], minlength=last + 1)[1:]
        sums = (
            np.bincount(ring[inside], values[inside], minlength=last + 1)[1:]
            for values in (distance, self.power_hu2_mm2)
        )
        frequency, power = (total / count for total in sums)
        return frequency, power

    @property
    def variance_hu2(self) -> float:
        """The integral over both frequencies."""
        area_mm2 = self.power_hu2_mm2.size * math.prod(self.spacing_mm)
        return float(self.power_hu2_mm2.sum()) / area_mm2

    @property
    def sigma_hu(self) -> float:
        """The standard deviation of the noise."""
        return math.sqrt(self.variance_hu2)

    @property
    def peak_per_mm(self) -> float:
        """The radial frequency with the largest power."""
        frequency, power = self.radial
        return float(frequency[np.argmax(power)])

    @property
    def mean_per_mm(self) -> float:
        """The mean radial frequency, weighted by the radial power (AAPM TG-233, 2019)."""
        frequency, power = self.radial
        total = float(power.sum())
        return float((frequency * power).sum()) / total if total else float("nan")


def noise_power(
    regions_hu: Unit | Array, spacing_mm: SpacingMm | tuple[float, float], trend: int | None = 0
) -> NoisePower:
    """The noise power spectrum of regions, averaged over them.

    Args:
        regions_hu: (N, Y, X) HU, at least 4 pixels along Y and X.
        spacing_mm: distance of neighbouring pixels along (Y, X); a first Z is ignored.
        trend: degree of the polynomial in y and x that is fitted to each region and subtracted.
            0 subtracts the mean as ICRU 87 does, 1 a plane, 2 a parabola, for regions with slow
            anatomy or cupping. None subtracts nothing, for noise whose mean is known. A fit of k
            terms also takes the share k / (Y X) of white noise, at the lowest frequencies.

    Raises:
        ValueError: if the regions are too small, or hold values that are not finite.

    Example:
        >>> checks = np.indices((2, 8, 8)).sum(axis=0) % 2 * 20.0
        >>> found = noise_power(checks, (0.5, 0.5))
        >>> found.sigma_hu, np.argmax(found.power_hu2_mm2).item()  # at the corner
        (10.0, 0)
    """
    regions = np.asarray(regions_hu, np.float64)
    if regions.ndim != 3 or not len(regions) or min(regions.shape[1:]) < 4:
        raise ValueError(f"regions must be (N, Y, X), 4 pixels or wider, not {regions.shape}")
    if not np.isfinite(regions).all():
        raise ValueError("regions hold values that are not finite")
    y, x = (float(mm) for mm in spacing_mm[-2:])
    spectrum = np.zeros(regions.shape[1:])
    terms = None if trend is None else _polynomials(regions.shape[1:], trend)
    for region in regions:
        noise = region if terms is None else _without(region, terms)
        spectrum += np.abs(np.fft.fft2(noise)) ** 2
    scale = y * x / spectrum.size / len(regions)
    return NoisePower(np.fft.fftshift(spectrum * scale), (y, x), len(regions))


def _without(region: Array, terms: Array) -> Array:
    """A region without its projection to orthonormal terms, (Y X, k)."""
    flat = region.ravel()
    return np.asarray((flat - terms @ (terms.T @ flat)).reshape(region.shape))


def _polynomials(shape: tuple[int, ...], degree: int) -> Array:
    """(Y X, k) orthonormal polynomials in y and x up to a degree."""
    y, x = (np.linspace(-1, 1, n) for n in shape)
    columns: list[npt.NDArray[Any]] = [
        (y[:, None] ** i * x**j).ravel() for i in range(degree + 1) for j in range(degree + 1 - i)
    ]
    return np.asarray(np.linalg.qr(np.stack(columns, axis=1))[0])
