"""The window: the linear map between Hounsfield units and the network's [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SOFT_TISSUE_HU = (-160.0, 240.0)  # level 40, width 400


@dataclass(frozen=True)
class Window:
    """Maps [low_hu, high_hu] to [0, 1].

    Attributes:
        low_hu: becomes 0; air.
        high_hu: becomes 1.
        clip: whether clean voxels beyond the window are set to its ends before noise is added,
            as Abascal et al. (2020) train. Where it is False the map is linear everywhere and
            networks learn bone, too.
    """

    low_hu: float = -1000.0
    high_hu: float = 400.0
    clip: bool = True

    def __post_init__(self) -> None:
        if not -math.inf < self.low_hu < self.high_hu < math.inf:
            raise ValueError(
                f"window.low_hu must lie below window.high_hu, not {self.low_hu} and {self.high_hu}"
            )

    @property
    def unit_name(self) -> str:
        """What its numbers are: HU, or the greys of photographs and pairs, which start at 0."""
        return "HU" if self.low_hu < 0 else "grey"

    @property
    def shown(self) -> tuple[float, float]:
        """What pictures show: soft tissue of scans, where radiologists look for what noise hides.

        Of greys they show all.
        """
        return SOFT_TISSUE_HU if self.unit_name == "HU" else (self.low_hu, self.high_hu)

    @property
    def width_hu(self) -> float:
        """HU that one unit of the window stands for."""
        return self.high_hu - self.low_hu

    def has_range_of(self, other: Window) -> bool:
        """Whether both mean the same HU by their units; what they clip may differ."""
        return (self.low_hu, self.high_hu) == (other.low_hu, other.high_hu)

    def unit(self, hu: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """HU of any shape -> window units, never clipped."""
        scaled = (np.asarray(hu, np.float32) - np.float32(self.low_hu)) / np.float32(self.width_hu)
        return np.asarray(scaled, np.float32)

    def hu(self, unit: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Window units of any shape -> HU, never clipped."""
        scaled = np.asarray(unit, np.float32) * np.float32(self.width_hu) + np.float32(self.low_hu)
        return np.asarray(scaled, np.float32)

    def clean(self, hu: Any) -> Any:
        """An int16 HU tensor -> the float32 tensor in window units that a network learns."""
        import tensorflow as tf

        unit = (tf.cast(hu, tf.float32) - self.low_hu) * (1.0 / self.width_hu)
        return tf.clip_by_value(unit, 0.0, 1.0) if self.clip else unit

    def noisy(self, hu: Any, bounds: tuple[float, float]) -> Any:
        """An int16 HU tensor of recorded noise -> the float32 tensor that a network is given.

        Args:
            hu: of any shape.
            bounds: window units beyond which values are set to these where the window clips.
        """
        import tensorflow as tf

        unit = (tf.cast(hu, tf.float32) - self.low_hu) * (1.0 / self.width_hu)
        return tf.clip_by_value(unit, *bounds) if self.clip else unit
