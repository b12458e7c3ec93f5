"""Protection of bone: anatomy above the window keeps its own values.

A network trained on clipped images cannot distinguish bone from denser bone. A network trained on
the linear map learns bone late, because bone is rare and sharp, and lowers its mean until then. So
above the window the scan keeps its values. But keeping every single voxel above the window would
leave spikes of noise in soft tissue, so the neighbourhood of a voxel decides. Two values are used:
the mean of the noisy neighbours, which does not depend on the network, and the network's estimate,
which shows thin bone that the mean dilutes. The estimate counts only where the local mean is near
the top of the window.

A wire or clip beside air has a low mean. So a voxel far above the window is also kept if another
one beside it is: noise makes single such voxels, and hardly ever two. This is judged by the values
of the scan, because those that the network is given are clipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from volumes.boxes import Box
from volumes.volume import SpacingMm, Unit
from volumes.window import Window

# Ramps from 0 to 1 in HU relative to the top of the window, chosen on real CT at 10 % noise. A mean
# over more voxels loses thin bone; over fewer voxels a noise spike keeps itself. Lower ramps would
# keep the noise of vessels and kidneys filled with contrast.
_ABOVE_HU = (-75.0, 25.0)  # mean of the neighbours: keep
_CONTRADICTED_HU = (-200.0, -100.0)  # mean of the neighbours: let the estimate count
_SATURATED_HU = (-70.0, 0.0)  # estimate: keep
_METAL_HU, _BESIDE_METAL_HU = (300.0, 450.0), (200.0, 400.0)  # the voxel; its highest neighbour
_SIGMA_VOXELS = 0.8
_TRUNCATE = 4.0
_ROUNDING_HU = 1.0  # far more than a mean can exceed its largest value by


@dataclass(frozen=True)
class BoneWeight:
    """The share of its own value that each voxel of a scan keeps.

    Attributes:
        window: its upper end is the limit.
        spacing_mm: (Z, Y, X); neighbours are weighted by their distance.
    """

    window: Window
    spacing_mm: SpacingMm

    def around(self, box: Box) -> Box:
        """A box with the neighbours that decide about its voxels."""
        z, y, x = (start - far for start, far in zip(box.start, self._reach, strict=True))
        depth, height, width = (n + 2 * far for n, far in zip(box.shape, self._reach, strict=True))
        return Box((z, y, x), (depth, height, width))

    def within(self, around: Unit) -> Unit:
        """The box without the neighbours: a view of a block of `around`."""
        ends = zip(self._reach, around.shape, strict=True)
        return around[tuple(slice(far, n - far) for far, n in ends)]

    def weight(
        self, around: Unit, estimate: Unit, own_hu: Callable[[], Unit]
    ) -> npt.NDArray[np.float32]:
        """The share that the voxels of a box keep, a smooth function from 0 to 1.

        Args:
            around: what the network is given `around` the box, in window units.
            estimate: of the network in the box, in window units.
            own_hu: gives the scan `around` the box, in HU. Called only where there may be metal.
        """
        weight = np.zeros(estimate.shape, np.float32)
        part = self._undecided(around)
        if part is not None:
            inner = part.slices
            weight[inner] = self._of_mean(self._mean(around, part), estimate[inner])
            # What is far above the window is among the highest values that the network is given.
            least = self.window.unit(self.window.high_hu + _METAL_HU[0])
            may_be = self.within(around) >= min(least, around.max())
            if may_be.any():
                self._keep_metal(weight, may_be, own_hu())
        return weight

    def _keep_metal(self, weight: Unit, may_be: npt.NDArray[np.bool_], own_hu: Unit) -> None:
        """Raises the weight of voxels far above the window that have such a neighbour."""
        least_hu = self.window.high_hu + _METAL_HU[0]
        z, y, x = np.nonzero(may_be & (self.within(own_hu) > least_hu))
        if not z.size:
            return
        far_z, far_y, far_x = self._reach
        plane = np.arange(-1, 2)
        square = own_hu[
            (z + far_z)[:, None, None],
            (y + far_y)[:, None, None] + plane[:, None],
            (x + far_x)[:, None, None] + plane,
        ]
        own, square[:, 1, 1] = square[:, 1, 1].copy(), -np.inf
        high_hu = np.float32(self.window.high_hu)
        kept = _rise(own - high_hu, *_METAL_HU)
        kept *= _rise(square.max(axis=(1, 2)) - high_hu, *_BESIDE_METAL_HU)
        weight[z, y, x] = np.maximum(weight[z, y, x], kept)

    def _of_mean(self, mean: Unit, estimate: Unit) -> Unit:
        mean = self._above_hu(mean)
        supported = _rise(self._above_hu(estimate), *_SATURATED_HU)
        supported *= _rise(mean, *_CONTRADICTED_HU)
        return np.maximum(_rise(mean, *_ABOVE_HU), supported, out=supported)

    def _above_hu(self, unit: Unit) -> Unit:
        above = self.window.hu(unit)
        above -= np.float32(self.window.high_hu)
        return above

    def _undecided(self, around: Unit) -> Box | None:
        """The part of the box outside of which all neighbours are too low to keep a voxel."""
        low_hu = self.window.high_hu + _CONTRADICTED_HU[0] - _ROUNDING_HU
        high = np.asarray(around > self.window.unit(low_hu))
        rows = np.asarray(high.any(axis=2))
        along = rows.any(axis=1), rows.any(axis=0), high.any(axis=(0, 1))
        found = []
        for some, far in zip(along, self._reach, strict=True):
            index = np.flatnonzero(some)
            if not index.size:
                return None
            # A voxel at `i` of the block counts for those from `i - 2 far` to `i` of the box.
            first, last = max(index[0] - 2 * far, 0), min(index[-1], some.size - 2 * far - 1)
            found.append((int(first), int(last) + 1 - int(first)))
        (z, depth), (y, height), (x, width) = found
        return Box((z, y, x), (depth, height, width))

    def _mean(self, around: Unit, part: Box) -> Unit:
        from scipy import ndimage  # here, because its import is slow

        needed = tuple(
            slice(a, a + n + 2 * far)
            for a, n, far in zip(part.start, part.shape, self._reach, strict=True)
        )
        mean = ndimage.gaussian_filter(around[needed], self._sigma, truncate=_TRUNCATE)
        return self.within(mean)

    @cached_property
    def _sigma(self) -> list[float]:
        _, y_mm, x_mm = self.spacing_mm
        return [_SIGMA_VOXELS * min(1.0, math.sqrt(y_mm * x_mm) / mm) for mm in self.spacing_mm]

    @cached_property
    def _reach(self) -> list[int]:
        """Neighbours on each side along (Z, Y, X)."""
        return [math.ceil(_TRUNCATE * sigma) for sigma in self._sigma]


def _rise(value: Unit, low: float, high: float) -> npt.NDArray[np.float32]:
    """0 below `low`, 1 above `high`, smooth between: 3t^2 - 2t^3."""
    t = value - np.float32(low)
    t /= np.float32(high - low)
    np.clip(t, 0, 1, out=t)
    factor = 3 - 2 * t
    t *= t
    t *= factor
    return t
