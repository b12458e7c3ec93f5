"""The noise of a scan of which no clean twin exists, measured in its uniform regions.

The standard deviation is the most frequent one of many small regions, as in Christianson et al.,
AJR 205 (2015): regions with anatomy have a larger one. The noise power spectrum says whether the
noise is white. It is that of differences of neighbouring slices, in which anatomy cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from engine.scoring.noise_power import NoisePower, noise_power
from engine.scoring.tissue_classes import is_tissue
from volumes.padding import Mask, padding
from volumes.volume import BELOW_WATER_HU, LEAST_BELOW, SpacingMm, Unit
from volumes.window import Window

TISSUES = ("soft_tissue", "fat", "air")  # in the order in which they stand for the scan

_WINDOW = Window()
_SIDE = 16  # pixels of a region: 8 to 16 mm, which fits into muscles
_HALF = _SIDE // 2
_PLANE = 3  # numbers that a plane takes from a region
_PAIRS = 12  # of neighbouring slices, spread over the scan
_FEWEST, _MOST = 20, 2000  # regions
_NOISELESS_HU = 0.3  # rounding to whole HU alone gives 0.29
_MOST_CLIPPED = 0.02  # of a region at the lowest value of its slice
_PEAK, _ABOVE = 0.25, 1.3
_DIFFERENT = 1.05
# Cycles per pixel. Below them the spectrum also holds anatomy; above 0.5 are its corners.
_BANDS = (0.16, 0.24, 0.32, 0.4, 0.5, 0.72)
# Measured on real scans: white noise of 70 to 140 HU is uneven by 1.02 to 1.19 and rises by at most
# 1.01 (small phantoms: 1.07). Simulated low dose and sharp kernels (D45f, B60f) are
# uneven by 1.2 to 3 and, where by less than 1.5, rise by 1.1 to 1.6. Soft kernels are uneven by 4
# to 160. By PSNR, the network for white noise is better by 0.5 to 1.6 dB where it is white, and by
# up to 1.5 dB at 1.25 (exponent 0.2, cut-off 1). The network for kernels is better by 4 dB on
# simulated low dose and D45f, and by up to 8 dB at 1.55 (0.6, 0.6).
MOST_UNEVEN_WHITE = 1.35
MOST_RISE_WHITE = 1.08


@dataclass(frozen=True)
class TissueNoise:
    """The noise of one tissue class.

    Attributes:
        sigma_hu: standard deviation within slices.
        regions: number of uniform regions that it was measured in.
    """

    sigma_hu: float
    regions: int


@dataclass(frozen=True)
class ScanNoise:
    """The noise of a scan.

    Attributes:
        tissues: noise of each tissue class, or a reason why it was not measured.
        tissue: the class that stands for the scan; None if none was measured.
        power: noise power spectrum in that class.
        of_differences: whether `power` is half that of differences of neighbouring slices. Else it
            is that of single slices.
        between_slices: correlation of the noise of neighbouring slices; None if it was not
            measured. It is 0 for independent slices, larger where slices overlap.
    """

    tissues: dict[str, TissueNoise | str]
    tissue: str | None = None
    power: NoisePower | None = None
    of_differences: bool = False
    between_slices: float | None = None

    @property
    def sigma_hu(self) -> float | None:
        """Standard deviation in the class that stands for the scan."""
        found = self.tissues[self.tissue] if self.tissue else None
        return found.sigma_hu if isinstance(found, TissueNoise) else None

    @property
    def sigma(self) -> float | None:
        """The same in units of the window [-1000, 400] HU, as recipes give it."""
        return None if self.sigma_hu is None else self.sigma_hu / _WINDOW.width_hu

    @property
    def bands(self) -> tuple[float, ...]:
        """Mean power in five bands from 0.16 to 0.72 cycles per pixel, relative to their mean."""
        if self.power is None:
            return ()
        y, x = (np.fft.fftshift(np.fft.fftfreq(n)) for n in self.power.power_hu2_mm2.shape)
        distance = np.hypot(y[:, None], x)
        means = np.array([
            self.power.power_hu2_mm2[(distance >= low) & (distance < high)].mean()
            for low, high in pairwise(_BANDS)
        ])  # fmt: skip
        return tuple((means / means.mean()).tolist())

    @property
    def unevenness(self) -> float | None:
        """The strongest over the weakest of the bands: 1 for white noise."""
        return max(self.bands) / min(self.bands) if self.bands else None

    @property
    def rise(self) -> float | None:
        """How much a band has of the power of a slower one, at most: 1 for white noise.

        The scan's own noise under white noise adds power to slow bands. Only the filter of a
        reconstruction gives fast ones more.
        """
        if not self.bands:
            return None
        return max(fast / slow for slow, fast in combinations(self.bands, 2))

    @property
    def neighbours(self) -> float | None:
        """Correlation of neighbouring pixels within slices, from the spectrum: 0 if white."""
        if self.power is None:
            return None
        power = self.power.power_hu2_mm2
        y, x = (np.cos(2 * np.pi * np.fft.fftshift(np.fft.fftfreq(n))) for n in power.shape)
        return float((power * (y[:, None] + x)).sum() / (2 * power.sum()))

    @property
    def colour(self) -> str | None:
        """White or coloured."""
        if self.unevenness is None or self.rise is None:
            return None
        white = self.unevenness <= MOST_UNEVEN_WHITE and self.rise <= MOST_RISE_WHITE
        return "white" if white else "coloured"

    @property
    def network(self) -> str | None:
        """The network of the recipes that has learned such noise."""
        return {"white": "gaussian_denoiser", "coloured": "ct_denoiser"}.get(self.colour or "")


def scan_noise(
    voxels: npt.NDArray[Any],
    spacing_mm: SpacingMm,
    hu: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = np.asarray,
) -> ScanNoise:
    """Measures the noise of a scan in regions of 16 x 16 pixels of at most 24 of its slices.

    A region belongs to a tissue class if the mean of each of its quarters does. A plane is
    subtracted from it. The standard deviation of a class is where the distribution of the regions'
    standard deviations, over their logarithm, has its first peak.

    Args:
        voxels: (Z, Y, X), the slices of one scan.
        spacing_mm: distance of neighbouring voxels along (Z, Y, X).
        hu: converts a slice of voxels to HU; by default they are HU.

    Example:
        >>> from volumes import random_draws
        >>> body = np.full((4, 64, 64), 40.0)
        >>> body[:, :16] = -1000
        >>> noise = 20 * random_draws.rng(0, "example").standard_normal(body.shape)
        >>> found = scan_noise(body + noise, (3.0, 0.8, 0.8))
        >>> found.colour, round(found.sigma_hu)
        ('white', 20)
    """
    sampled = list(_pairs(voxels, hu))
    if not _looks_like_hu([one.hu for pair in sampled for one in pair]):
        return ScanNoise(dict.fromkeys(TISSUES, "the values do not look like HU"))
    tissues: dict[str, TissueNoise | str] = {}
    uniform: dict[str, Unit] = {}
    for name in TISSUES:
        found = [one.regions(name) for pair in sampled for one in pair]
        regions = np.concatenate([regions for regions, _ in found])
        clipped = sum(count for _, count in found)
        measured = _most_frequent(regions)
        if measured is None:
            tissues[name] = _reason(len(regions), clipped)
        else:
            tissues[name], uniform[name] = measured
    tissue = next(iter(uniform), None)
    if tissue is None:
        return ScanNoise(tissues)
    alone = tissues[tissue]
    assert isinstance(alone, TissueNoise)
    between = _most_frequent(_differences(sampled, tissue))
    if between is None:
        return ScanNoise(tissues, tissue, _power(uniform[tissue], spacing_mm))
    # Slices far apart differ in their anatomy: then each slice alone shows less of it.
    apart, regions = between
    closer = apart.sigma_hu <= _DIFFERENT * alone.sigma_hu
    power = _power(regions if closer else uniform[tissue], spacing_mm)
    shared = max(1 - (apart.sigma_hu / alone.sigma_hu) ** 2, 0.0)
    return ScanNoise(tissues, tissue, power, closer, shared if closer else None)


class _Slice:
    """One slice, its measured voxels, and its blocks: the quarters of regions.

    Attributes:
        hu: (Y, X) HU.
        measured: its mask of voxels that are no padding.
        means: (Y / 8, X / 8) mean of each block, NaN where it holds padding.
    """

    def __init__(self, hu: npt.NDArray[Any]) -> None:
        self.hu = np.asarray(hu, np.float32)
        self.measured: Mask = ~padding(self.hu[None])[0]
        y, x = (n // _HALF for n in self.hu.shape)
        cut = np.where(self.measured, self.hu, np.float32(np.nan))[: y * _HALF, : x * _HALF]
        blocks = cut.reshape(y, _HALF, x, _HALF)
        self.means = blocks.mean(axis=(1, 3)) if blocks.size else np.empty((y, x), np.float32)

    def of_tissue(self, name: str) -> Mask:
        """(N, M) mask of the regions, which begin at every block, of a tissue class."""
        inside = is_tissue(name, self.means)
        return inside[:-1, :-1] & inside[1:, :-1] & inside[:-1, 1:] & inside[1:, 1:]

    def at(self, regions: Mask) -> Unit:
        """(N, 16, 16) HU of the regions of a mask."""
        if not regions.any():
            return np.empty((0, _SIDE, _SIDE), np.float32)
        every = sliding_window_view(self.hu, (_SIDE, _SIDE))[::_HALF, ::_HALF]
        return np.asarray(every[: regions.shape[0], : regions.shape[1]][regions])

    def regions(self, name: str) -> tuple[Unit, int]:
        """(N, 16, 16) HU of the regions of a class that are not clipped; the number that are."""
        regions = self.at(self.of_tissue(name))
        lowest = self.hu[self.measured].min(initial=np.inf)
        clipped = (regions <= lowest).mean(axis=(1, 2)) > _MOST_CLIPPED
        return regions[~clipped], int(np.count_nonzero(clipped))


def _pairs(
    voxels: npt.NDArray[Any], hu: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> Iterator[tuple[_Slice, ...]]:
    """Pairs of neighbouring slices, spread over the scan; one slice if there is only one."""
    depth = len(voxels)
    if depth < 2:
        yield from ((_Slice(hu(slice_)),) for slice_ in voxels)
        return
    pairs = min(_PAIRS, depth // 2)
    for first in np.unique(np.rint(np.linspace(0, depth - 2, pairs)).astype(int)):
        yield _Slice(hu(voxels[first])), _Slice(hu(voxels[first + 1]))


def _differences(pairs: list[tuple[_Slice, ...]], name: str) -> Unit:
    """(N, 16, 16) differences of neighbouring slices over sqrt(2), in regions of a class in both.

    Their variance is that of one slice, if the noise of the slices is independent.
    """
    found = [np.empty((0, _SIDE, _SIDE), np.float32)]
    for pair in pairs:
        if len(pair) == 2:
            one, other = pair
            both = one.of_tissue(name) & other.of_tissue(name)
            found.append((one.at(both) - other.at(both)) / np.float32(math.sqrt(2)))
    return np.concatenate(found)


def _most_frequent(regions: Unit) -> tuple[TissueNoise, Unit] | None:
    """The most frequent standard deviation, and the regions that have it, without their planes.

    None if there are too few regions with noise.
    """
    if len(regions) < _FEWEST:
        return None
    regions = _without_plane(regions)
    squares = (regions**2).sum(axis=(1, 2), dtype=np.float64)
    sigma_hu = np.sqrt(squares / (_SIDE**2 - _PLANE))
    noisy = sigma_hu > _NOISELESS_HU
    if np.count_nonzero(noisy) < _FEWEST:
        return None
    regions, sigma_hu = regions[noisy], sigma_hu[noisy]
    typical = _first_peak(sigma_hu)
    uniform = sigma_hu < _ABOVE * typical
    return TissueNoise(typical, int(np.count_nonzero(uniform))), regions[uniform]


def _without_plane(regions: Unit) -> Unit:
    """(N, 16, 16) regions less the plane that fits each of them best."""
    ramp = np.linspace(-1, 1, _SIDE, dtype=np.float32)
    ramp /= math.sqrt(float((ramp**2).sum()))
    level = regions.mean(axis=(1, 2), keepdims=True)
    along_y = (regions.mean(axis=2) @ ramp)[:, None, None] * ramp[:, None]
    along_x = (regions.mean(axis=1) @ ramp)[:, None, None] * ramp
    return np.asarray(regions - level - along_y - along_x)


def _first_peak(sigma_hu: npt.NDArray[np.float64]) -> float:
    """The first peak of the density of the logarithm, if it has a quarter of the highest.

    The logarithm of the standard deviation of Gaussian noise has its peak at the true one, however
    few independent pixels a region holds.
    """
    logarithm = np.sort(np.log(sigma_hu))
    logarithm = logarithm[:: len(logarithm) // _MOST + 1]
    width = max(0.06, 0.5 / len(logarithm) ** (1 / 3))
    at = np.arange(logarithm[0] - 3 * width, logarithm[-1] + 3 * width, 0.01)
    density = np.exp(-0.5 * ((at[:, None] - logarithm) / width) ** 2).sum(axis=1)
    inner = density[1:-1]
    peak = (inner >= density[:-2]) & (inner > density[2:]) & (inner >= _PEAK * density.max())
    return float(np.exp(at[1 + int(np.argmax(peak))]))


def _power(regions: Unit, spacing_mm: SpacingMm) -> NoisePower:
    """The spectrum under a Hann window, so that anatomy does not leak to all frequencies."""
    hann = np.hanning(_SIDE + 2)[1:-1, None] * np.hanning(_SIDE + 2)[1:-1]
    hann /= math.sqrt(float(np.mean(hann**2)))
    return noise_power(regions[:: len(regions) // _MOST + 1] * hann, spacing_mm, trend=None)


def _looks_like_hu(slices: list[npt.NDArray[Any]]) -> bool:
    """Whether some values are below water, as in every CT of a body: there is air or fat."""
    finite = [slice_[np.isfinite(slice_)] for slice_ in slices]
    below = sum(int(np.count_nonzero(values < BELOW_WATER_HU)) for values in finite)
    return below > 0 and below >= LEAST_BELOW * sum(values.size for values in finite)


def _reason(regions: int, clipped: int) -> str:
    if clipped > regions:
        return "clipped at the lowest value"
    return "no noise" if regions >= _FEWEST else "no uniform region"
