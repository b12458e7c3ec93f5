"""What denoising keeps of anatomy that lies above the window.

A network trained on clipped images cannot tell bone from denser bone; one trained on the linear
map learns bone late, because it is rare and sharp, and lowers its mean until then. So above the
window the scan keeps its own values. The opposite mistake is as bad: keeping every *voxel* above
the window would leave the noise's own spikes in the tissue. So the neighbourhood decides. It has
two witnesses: the mean of the noisy neighbours, which no badly trained network can mislead, and
the network's estimate, which sees thin bone that the mean dilutes, but is heard only where the
mean does not contradict it.
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

# Chosen on real CT at 10 % noise. A mean over more voxels loses thin bone, over fewer lets a spike
# carry itself; lower levels keep the noise of vessels and kidneys filled with contrast.
_ABOVE_HU = (-75.0, 25.0)  # mean of the neighbours, from the window's end
_CONTRADICTED_HU = (-200.0, -100.0)
_SATURATED_HU = (-70.0, 0.0)  # estimate
_SIGMA_VOXELS = 0.8
_TRUNCATE = 4.0


@dataclass(frozen=True)
class Keep:
    """Decides how much of its own value each voxel of a scan keeps.

    Attributes:
        window: whose upper end decides.
        noisy: blocks of the scan in window units.
        spacing_mm: (Z, Y, X); neighbours count by their distance.
    """

    window: Window
    noisy: Blocks
    spacing_mm: SpacingMm

    def weight(self, box: Box, estimate: Unit) -> npt.NDArray[np.float32]:
        """The share, from 0 to 1 and without a step, that the voxels of a box keep.

        Args:
            box: of the scan.
            estimate: of the network there, in window units.
        """
        mean = self._above_hu(self._mean(box))
        saturated = _rise(self._above_hu(estimate), *_SATURATED_HU)
        heard = saturated * _rise(mean, *_CONTRADICTED_HU)
        return np.asarray(np.maximum(_rise(mean, *_ABOVE_HU), heard), np.float32)

    def _above_hu(self, unit: Unit) -> Unit:
        return self.window.hu(unit) - np.float32(self.window.high_hu)

    def _mean(self, box: Box) -> Unit:
        from scipy import ndimage  # not at the top: it imports for longer than a refusal may take

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
    """0 below, 1 above, smooth between: 3t^2 - 2t^3."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
