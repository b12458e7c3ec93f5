"""HU accuracy: whether a method keeps the HU of materials, and the uniformity of water."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.characterization.stack_blocks import standard_error, student_quantile
from volumes.phantoms.rods import Rod

_CENTRAL = 0.6  # of a rod's radius: beyond it, its edge is blurred
# Five discs as in the uniformity module of the ACR phantom: radius 11 mm, 66 mm from the centre, in
# a phantom of radius 100 mm.
_DISC, _OFFSET = 0.11, 0.66


@dataclass(frozen=True)
class HuAccuracy:
    """The HU of one material, over realisations.

    Attributes:
        nominal_hu: of the phantom.
        mean_hu: measured.
        standard_error_hu: of the mean, over realisations.
        within: half the width of the 95 % interval, in standard errors.
    """

    nominal_hu: float
    mean_hu: float
    standard_error_hu: float
    within: float

    @property
    def bias_hu(self) -> float:
        """Measured - nominal."""
        return self.mean_hu - self.nominal_hu

    @property
    def half_width_hu(self) -> float:
        """Half the width of the 95 % interval of the bias."""
        return self.within * self.standard_error_hu


def hu_accuracy(
    stack_hu: npt.NDArray[Any], rod: Rod, pixel_mm: float, reach: int = 0
) -> HuAccuracy:
    """The HU within the central 60 % of a rod's diameter.

    Args:
        stack_hu: (N, Y, X) square realisations.
        rod: wide enough to hold pixels there.
        pixel_mm: width of the pixels.
        reach: number of slices on each side that a realisation depends on.
    """
    inside = rod.distance_mm(stack_hu.shape[-1], pixel_mm) < _CENTRAL * rod.radius_mm
    means = stack_hu[:, inside].mean(axis=1, dtype=np.float64)
    error, within = standard_error(means, reach), student_quantile(len(means), reach)
    return HuAccuracy(rod.hu, float(means.mean()), error, within)


def nonuniformity_hu(mean_hu: npt.NDArray[Any], body: Rod, pixel_mm: float) -> float:
    """The largest difference in HU between the centre of a uniform phantom and four discs around.

    Args:
        mean_hu: (N, N) mean over realisations.
        body: the cylinder of the phantom.
        pixel_mm: width of the pixels.
    """
    far, size = _OFFSET * body.radius_mm, len(mean_hu)
    means = []
    for x, y in ((0.0, 0.0), (far, 0.0), (-far, 0.0), (0.0, far), (0.0, -far)):
        disc = Rod("", body.x_mm + x, body.y_mm + y, _DISC * body.diameter_mm, 0.0)
        inside = disc.distance_mm(size, pixel_mm) < disc.radius_mm
        means.append(float(np.mean(mean_hu[inside], dtype=np.float64)))
    centre, *around = means
    return max((mean - centre for mean in around), key=abs)
