"""Protection of bone: anatomy above the window keeps its own values.

A network trained on clipped images cannot distinguish bone from denser bone. A network trained on
the linear map learns bone late, because bone is rare and sharp, and lowers its mean until then. So
above the window the scan keeps its values. But keeping every single voxel above the window would
leave spikes of noise in soft tissue, so the neighbourhood of a voxel decides. Two values are used:
the mean of the noisy neighbours, which does not depend on the network, and the network's estimate,
which shows thin bone that the mean dilutes. The estimate counts only where the local mean is near
the top of the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.inference.tiling import Blocks
from volumes.boxes import Box
from volumes.volume import SpacingMm, Unit
from volumes.window import Window

# Ramps from 0 to 1 in HU relative to the top of the window, chosen on real CT at 10 % noise. A mean
# over more voxels loses thin bone; over fewer voxels a noise spike keeps itself. Lower ramps would
# keep the noise of vessels and kidneys filled with contrast.
_ABOVE_HU = (-75.0, 25.0)  # mean of the neighbours: keep
_CONTRADICTED_HU = (-200.0, -100.0)  # mean of the neighbours: let the estimate count
_SATURATED_HU = (-70.0, 0.0)  # estimate: keep
_SIGMA_VOXELS = 0.8
_TRUNCATE = 4.0


@dataclass(frozen=True)
class BoneWeight:
    """The share of its own value that each voxel of a scan keeps.

    Attributes:
        window: its upper end is the limit.
        noisy: blocks of the scan in window units.
        spacing_mm: (Z, Y, X); neighbours are weighted by their distance.
    """

    window: Window
    noisy: Blocks
    spacing_mm: SpacingMm

    def weight(self, box: Box, estimate: Unit) -> npt.NDArray[np.float32]:
        """The share that the voxels of a box keep, a smooth function from 0 to 1.

        Args:
            box: of the scan.
            estimate: of the network in this box, in window units.
        """
        mean = self._above_hu(self._mean(box))
        saturated = _rise(self._above_hu(estimate), *_SATURATED_HU)
        supported = saturated * _rise(mean, *_CONTRADICTED_HU)
        return np.asarray(np.maximum(_rise(mean, *_ABOVE_HU), supported), np.float32)

    def _above_hu(self, unit: Unit) -> Unit:
        return self.window.hu(unit) - np.float32(self.window.high_hu)

    def _mean(self, box: Box) -> Unit:
        from scipy import ndimage  # here, because its import is slow

        _, y_mm, x_mm = self.spacing_mm
        sigma = [_SIGMA_VOXELS * min(1.0, math.sqrt(y_mm * x_mm) / mm) for mm in self.spacing_mm]
        z, y, x = (math.ceil(_TRUNCATE * s) for s in sigma)
        start, shape = box.start, box.shape
        around = self.noisy(
            Box(
                (start[0] - z, start[1] - y, start[2] - x),
                (shape[0] + 2 * z, shape[1] + 2 * y, shape[2] + 2 * x),
            )
        )
        mean = ndimage.gaussian_filter(around, sigma, truncate=_TRUNCATE)
        return np.asarray(mean[Box((z, y, x), shape).slices], np.float32)


def _rise(value: Unit, low: float, high: float) -> npt.NDArray[np.float32]:
    """0 below `low`, 1 above `high`, smooth between: 3t^2 - 2t^3."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
