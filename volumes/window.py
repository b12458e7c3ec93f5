"""The window: the linear map from Hounsfield units to the network's [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SOFT_TISSUE_HU = (-160.0, 240.0)  # level 40, width 400


@dataclass(frozen=True)
class Window:
    """The linear map from [low_hu, high_hu] to [0, 1].

    Attributes:
        low_hu: mapped to 0. The default is air.
        high_hu: mapped to 1.
        clip: whether clean voxels outside the window are clipped to it before noise is added, as
            in the training of Abascal et al. (2020). If False, the map is linear everywhere and
            networks also learn bone.

    Example:
        >>> window = Window(low_hu=-1000, high_hu=400)
        >>> window.unit([-1000, -300, 400]).tolist()
        [0.0, 0.5, 1.0]
        >>> float(window.hu(0.5)), window.width_hu
        (-300.0, 1400)
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
        """The unit of its limits: HU, or grey values (photographs, pairs), which start at 0."""
        return "HU" if self.low_hu < 0 else "grey"

    @property
    def shown(self) -> tuple[float, float]:
        """The display window of figures: soft tissue for scans, the whole range for grey values.

        Soft tissue is where noise hides what radiologists look for.
        """
        return SOFT_TISSUE_HU if self.unit_name == "HU" else (self.low_hu, self.high_hu)

    @property
    def width_hu(self) -> float:
        """The width of the window in HU: one window unit."""
        return self.high_hu - self.low_hu

    def has_range_of(self, other: Window) -> bool:
        """Whether both windows have the same limits. Clipping may differ."""
        return (self.low_hu, self.high_hu) == (other.low_hu, other.high_hu)

    def unit(self, hu: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Window units of HU, any shape, not clipped."""
        scaled = np.asarray(hu, np.float32) - np.float32(self.low_hu)
        scaled /= np.float32(self.width_hu)
        return np.asarray(scaled, np.float32)

    def hu(self, unit: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """HU of window units, any shape, not clipped."""
        scaled = np.asarray(unit, np.float32) * np.float32(self.width_hu)
        scaled += np.float32(self.low_hu)
        return np.asarray(scaled, np.float32)

    def clean(self, hu: Any) -> Any:
        """The training target: HU tensor, int16 or float32, -> float32 tensor in window units."""
        import tensorflow as tf

        unit = (tf.cast(hu, tf.float32) - self.low_hu) * (1.0 / self.width_hu)
        return tf.clip_by_value(unit, 0.0, 1.0) if self.clip else unit

    def noisy(self, hu: Any, bounds: tuple[float, float]) -> Any:
        """The network's input from a noisy recording: HU tensor -> float32 in window units.

        Args:
            hu: of any shape, int16 or float32.
            bounds: in window units. Values are clipped to them if the window clips.
        """
        import tensorflow as tf

        unit = (tf.cast(hu, tf.float32) - self.low_hu) * (1.0 / self.width_hu)
        return tf.clip_by_value(unit, *bounds) if self.clip else unit
