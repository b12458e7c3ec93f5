"""Removed noise: the spectrum of what a method removed, beside that of the noise that was added.

A method that removes the noise alone has the same spectrum at every frequency. Where it removed
less, noise is left. Where it removed more, it removed anatomy. What is left of the noise at low
frequencies makes an image look blotchy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.scoring.case_images import CaseImages
from engine.scoring.noise_power import noise_power
from volumes.volume import SpacingMm, Unit

_SIDES = (32, 16, 8)  # pixels of a region: the largest that fits
_MOST = 400  # regions of a case


@dataclass(frozen=True)
class RemovedNoise:
    """Two noise power spectra of one case at one noise level, by radial frequency.

    Attributes:
        frequency_per_mm: cycles per mm.
        added_hu2_mm2: of the added noise, noisy - clean.
        removed_hu2_mm2: of what the method removed, noisy - estimate.
        regions: number of regions that were averaged.
    """

    frequency_per_mm: tuple[float, ...]
    added_hu2_mm2: tuple[float, ...]
    removed_hu2_mm2: tuple[float, ...]
    regions: int


class AddedNoise:
    """The noise of a case, in square regions that lie in the window completely.

    Args:
        images: of the case.
        spacing_mm: distance of neighbouring voxels along (Z, Y, X).
        width_hu: one window unit.
    """

    def __init__(self, images: CaseImages, spacing_mm: SpacingMm, width_hu: float) -> None:
        self._noisy, self._spacing_mm, self._width_hu = images.noisy, spacing_mm, width_hu
        self._corners, self._side = _regions(images)
        self._added = self._power(images.noisy - images.clean)

    def beside(self, estimate: Unit) -> RemovedNoise | None:
        """The spectrum of what an estimate removed, beside that of the noise.

        Args:
            estimate: (Z, Y, X) in window units.

        Returns:
            None if no region lies in the window, or the estimate is not finite there.
        """
        removed = self._power(self._noisy - estimate)
        if self._added is None or removed is None:
            return None
        frequency, added = self._added
        return RemovedNoise(frequency, added, removed[1], len(self._corners))

    def _power(self, image: Unit) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        cut = [
            image[z, y : y + self._side, x : x + self._side] * np.float32(self._width_hu)
            for z, y, x in self._corners
        ]
        if not cut or not all(np.isfinite(region).all() for region in cut):
            return None
        frequency, power = noise_power(np.stack(cut), self._spacing_mm).radial
        return tuple(frequency.tolist()), tuple(power.tolist())


def _regions(images: CaseImages) -> tuple[list[tuple[int, int, int]], int]:
    """The first corners of the regions, side by side, and their side in pixels."""
    depth, height, width = images.within.shape
    for side in _SIDES:
        inside = [
            (z, y, x)
            for z in range(depth)
            for y in range(0, height - side + 1, side)
            for x in range(0, width - side + 1, side)
            if images.within[z, y : y + side, x : x + side].all()
        ]
        if inside:
            return inside[:: len(inside) // _MOST + 1], side
    return [], 0
