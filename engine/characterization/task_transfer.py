"""Task transfer function: the resolution of an edge, at its own contrast and noise.

A linear system has one transfer function. A denoiser has one for each contrast and dose: it keeps
the edge of bone and blurs that of a faint lesion. It is measured at the edges of rods (Richard et
al., Med. Phys. 39, 2012; AAPM TG-233, 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.phantoms.rods import Rod, disc_spectrum

_BINS_OF_PIXEL = 4  # of the edge spread function
_REACH_MM = 6.0  # on each side of the edge; the whole radius of a rod of 12 mm
_FLAT = 0.5  # share of the window about the edge that is not tapered
_FREQUENCY_STEP_PER_MM = 0.01
_LEAST_CNR = 5.0  # of the mean image; below, noise reads as resolution
_LEAST_OF_BEAD = 0.2  # of its spectrum: what is left of it is divided by, which magnifies noise

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TaskTransfer:
    """The task transfer function of one rod.

    Attributes:
        frequency_per_mm: up to the Nyquist frequency of the pixels, or to the highest that a bead
            shows.
        transfer: 1 at frequency 0.
        contrast_hu: step of the measured edge.
        cnr: contrast to noise of the mean image that it was measured in.
    """

    frequency_per_mm: Array
    transfer: Array
    contrast_hu: float
    cnr: float

    @property
    def measurable(self) -> bool:
        """Whether the edge stands out of the noise. If not, the function describes noise."""
        return self.cnr > _LEAST_CNR

    def frequency_at(self, level: float) -> float:
        """The first frequency per mm at which it falls to a level such as 0.5.

        NaN if it is not measurable, or does not fall to it at a frequency that was measured.
        """
        below = np.flatnonzero(self.transfer < level)
        if not self.measurable or not below.size or below[0] == 0:
            return float("nan")
        i = int(below[0])
        (f0, f1), (t0, t1) = self.frequency_per_mm[i - 1 : i + 1], self.transfer[i - 1 : i + 1]
        return float(f0 + (f1 - f0) * (t0 - level) / (t0 - t1))

    def at(self, frequency_per_mm: Array) -> Array:
        """Its values at frequencies; 0 above those that were measured."""
        found = np.interp(frequency_per_mm, self.frequency_per_mm, self.transfer, right=0.0)
        return np.asarray(found)


def task_transfer(
    mean_hu: npt.NDArray[Any], rod: Rod, pixel_mm: float, noise_hu: float = 0.0
) -> TaskTransfer:
    """The task transfer function of a rod in the mean of an ensemble.

    Pixels are sorted by distance from the axis into bins of a quarter of a pixel: the edge spread
    function. Its derivative in a tapered window 6 mm (or a radius) to each side of the edge is the
    line spread function, and the magnitude of that one's Fourier transform the transfer function.
    It is corrected for the bins, not for the pixels. The curvature of the edge is neglected.

    Args:
        mean_hu: (N, N) mean over realisations: a single noisy image is too noisy for low contrast.
        rod: whose edge is measured.
        pixel_mm: width of the square pixels.
        noise_hu: standard deviation of a pixel of `mean_hu`.
    """
    at, spread = edge_spread(mean_hu, rod, pixel_mm)
    width = float(at[1] - at[0])
    line = -np.diff(spread) * _taper(len(spread) - 1)  # from the rod outwards
    between = (at[1:] + at[:-1]) / 2
    frequency = np.arange(0, 0.5 / pixel_mm, _FREQUENCY_STEP_PER_MM)
    waves = np.exp(-2j * np.pi * frequency[:, None] * between)
    total = float(line.sum())
    binned = np.sinc(frequency * width) ** 2  # the mean over a bin, and the difference of two
    transfer = np.abs(waves @ line) / binned / abs(total) if total else np.zeros(len(frequency))
    quarter = len(spread) // 4
    step = float(spread[:quarter].mean() - spread[-quarter:].mean())
    cnr = abs(step) / noise_hu if noise_hu else float("inf")
    return TaskTransfer(frequency, transfer, step, cnr)


def edge_spread(mean_hu: npt.NDArray[Any], rod: Rod, pixel_mm: float) -> tuple[Array, Array]:
    """The edge spread function of a rod: distance from its edge in mm, outwards, and HU.

    Args:
        mean_hu: (N, N) mean over realisations.
        rod: whose edge is measured.
        pixel_mm: width of the square pixels.
    """
    distance = rod.distance_mm(len(mean_hu), pixel_mm)
    width = pixel_mm / _BINS_OF_PIXEL
    reach = round(min(_REACH_MM, rod.radius_mm) / width)
    edges = rod.radius_mm + np.arange(-reach, reach + 1) * width
    place = np.digitize(distance, edges) - 1
    near = (place >= 0) & (place < len(edges) - 1)
    count = np.bincount(place[near], minlength=len(edges) - 1)
    sums = np.bincount(place[near], np.asarray(mean_hu, np.float64)[near], minlength=len(edges) - 1)
    middles, filled = (edges[1:] + edges[:-1]) / 2, count > 0
    spread = np.interp(middles, middles[filled], sums[filled] / count[filled])
    return middles - rod.radius_mm, np.asarray(spread)


def _taper(length: int) -> Array:
    """A window that is flat in the middle and falls as a cosine to both ends (Tukey's)."""
    x = np.abs(np.linspace(-1, 1, length))
    fall = 0.5 * (1 + np.cos(np.pi * (x - _FLAT) / (1 - _FLAT)))
    return np.asarray(np.where(x < _FLAT, 1.0, fall))


def point_transfer(mean_hu: npt.NDArray[Any], bead: Rod, pixel_mm: float) -> TaskTransfer:
    """The transfer function of a bead: the Fourier transform of its image, over that of its disc.

    Its surroundings, beyond 3.5 mm, are subtracted. The frequency 0 has the value 1. The last
    frequency is that at which the spectrum of the disc falls to a fifth: 1.96 per mm for a bead of
    0.5 mm.

    Args:
        mean_hu: (N, N) mean over realisations.
        bead: a thin rod.
        pixel_mm: width of the square pixels.
    """
    distance = bead.distance_mm(len(mean_hu), pixel_mm)
    image = np.asarray(mean_hu, np.float64)
    ring, disc = (distance > 3.5) & (distance < 6.0), distance <= 3.5
    points = image[disc] - image[ring].mean()
    y, x = np.nonzero(disc)
    frequency = np.arange(0, 0.5 / pixel_mm, _FREQUENCY_STEP_PER_MM)
    own = disc_spectrum(frequency, bead.diameter_mm, 1.0)
    shown = np.logical_and.accumulate(own > _LEAST_OF_BEAD * own[0])
    frequency, own = frequency[shown], own[shown] / own[0]
    # Along both axes and both diagonals: the mean of a ring, to a good approximation.
    found = []
    for turn in np.arange(8) * np.pi / 8:
        along = (x * np.cos(turn) + y * np.sin(turn)) * pixel_mm
        found.append(np.abs(np.exp(-2j * np.pi * frequency[:, None] * along) @ points))
    transfer = np.mean(found, axis=0) / own
    transfer = transfer / transfer[0] if transfer[0] else transfer
    noise = float(image[ring].std())
    peak = float(np.abs(points).max())
    return TaskTransfer(frequency, transfer, peak, peak / noise if noise else float("inf"))
