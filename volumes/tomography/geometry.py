"""Geometries: the rays that a scanner sends through a slice.

Lengths are in pixels of the slice, x to the right and y down from its centre. A ray is the line
x cos(theta) + y sin(theta) = s. The detector is projected to the centre of rotation, so the same
formulas hold for both kinds: a parallel beam is a fan beam without divergence.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class _Beam(ABC):
    """Common part of fan and parallel beams. Each class declares its own order of fields."""

    kind: ClassVar[str]

    views: int
    bins: int

    def __post_init__(self) -> None:
        for name in ("views", "bins"):
            if getattr(self, name) < 1:
                raise ValueError(f"geometry.{name} must be at least 1, not {getattr(self, name)}")

    @property
    @abstractmethod
    def arc(self) -> float:
        """The angular range of the views, in radians."""

    @property
    @abstractmethod
    def divergence(self) -> float:
        """1 / distance of the source from the centre, per pixel; 0 for parallel rays."""

    @property
    @abstractmethod
    def bin_width(self) -> float:
        """The bin spacing at the centre of rotation, in pixels."""

    @property
    def angles(self) -> Array:
        """(views,) angles of the central rays, in radians."""
        return np.arange(self.views) * (self.arc / self.views)

    @property
    def shadow(self) -> Array:
        """(bins,) positions of the bin centres, projected to the centre of rotation, in pixels.

        They lie on the line through the centre that faces the source. The distance of the detector
        only scales its bins; it does not change the rays.
        """
        return (np.arange(self.bins) - (self.bins - 1) / 2) * self.bin_width

    @property
    def rays(self) -> tuple[Array, Array]:
        """(views, bins) angle theta in radians and offset s in pixels of every ray."""
        tilt = self.divergence * self.shadow
        theta = self.angles[:, None] - np.arctan(tilt)
        return theta, np.broadcast_to(self.shadow / np.hypot(1, tilt), theta.shape)

    @property
    def radius(self) -> float:
        """The radius of the largest circle that is inside every view, in pixels."""
        edge = self.bins * self.bin_width / 2
        return edge / math.hypot(1, self.divergence * edge)

    def seeing(self, size: int) -> Self:
        """This geometry, enlarged if necessary to cover the inscribed circle of a slice.

        Args:
            size: side of the slice in pixels.
        """
        return self._enlarged(max(size / 2 / self.radius, 1.0))

    @abstractmethod
    def _enlarged(self, scale: float) -> Self: ...

    def every(self, stride: int) -> Self:
        """The geometry of every stride-th view. Its sinogram is exactly sinogram[::stride].

        Raises:
            ValueError: if the stride does not divide the number of views.
        """
        if stride < 1 or self.views % stride:
            raise ValueError(f"{self.views} views cannot be thinned evenly by {stride}")
        return replace(self, views=self.views // stride)

    def split_bins(self, parts: int) -> Self:
        """This geometry with every bin split into equal parts: the same detector, sampled finer."""
        return replace(self, bins=self.bins * parts)

    def about(self) -> dict[str, Any]:
        """The kind and the fields as plain data."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class FanBeam(_Beam):
    """Fan beam: a point source on a circle around the slice, opposite a flat detector.

    Defaults: 900 views, 729 bins, 35 degrees, the source 1000 pixels from the centre, as in the
    simulator of T. Humphries' group (github.com/TDHumphries/SART-ASTRA, make_sino.py).

    Attributes:
        views: number of views over 360 degrees.
        bins: number of detector bins.
        fan_degrees: angle between the rays to both ends of the detector.
        source_pixels: distance of the source from the centre of rotation.

    Example:
        >>> fan = FanBeam()
        >>> round(fan.radius, 1), fan.every(15).views
        (300.7, 60)
    """

    kind: ClassVar[str] = "fan_beam"

    views: int = 900
    bins: int = 729
    fan_degrees: float = 35.0
    source_pixels: float = 1000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.fan_degrees < 180:
            cause = f"between 0 and 180, not {self.fan_degrees}"
            raise ValueError(f"geometry.fan_degrees must lie {cause}")
        if not 0 < self.source_pixels < math.inf:
            raise ValueError(f"geometry.source_pixels must be positive, not {self.source_pixels}")

    @property
    def arc(self) -> float:
        """360 degrees."""
        return 2 * math.pi

    @property
    def divergence(self) -> float:
        """1 / distance of the source, per pixel."""
        return 1 / self.source_pixels

    @property
    def bin_width(self) -> float:
        """The bin spacing at the centre of rotation, in pixels."""
        return 2 * self.source_pixels * math.tan(math.radians(self.fan_degrees) / 2) / self.bins

    def _enlarged(self, scale: float) -> FanBeam:
        return replace(self, source_pixels=self.source_pixels * scale)


@dataclass(frozen=True)
class Parallel(_Beam):
    """Parallel beam.

    Defaults: 1000 views and 513 bins, as in LoDoPaB-CT (Leuschner et al., Sci. Data 8, 2021).

    Attributes:
        views: number of views over 180 degrees.
        bins: number of detector bins.
        bin_pixels: width of a bin.

    Example:
        >>> Parallel(views=4, bins=3).shadow.tolist()
        [-1.0, 0.0, 1.0]
    """

    kind: ClassVar[str] = "parallel"

    views: int = 1000
    bins: int = 513
    bin_pixels: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.bin_pixels < math.inf:
            raise ValueError(f"geometry.bin_pixels must be positive, not {self.bin_pixels}")

    @property
    def arc(self) -> float:
        """180 degrees; the views of the other half are the same rays."""
        return math.pi

    @property
    def divergence(self) -> float:
        """0: parallel rays do not diverge."""
        return 0.0

    @property
    def bin_width(self) -> float:
        """The bin spacing, in pixels."""
        return self.bin_pixels

    def split_bins(self, parts: int) -> Parallel:
        """This geometry with every bin split into equal parts: the same detector, sampled finer."""
        return replace(self, bins=self.bins * parts, bin_pixels=self.bin_pixels / parts)

    def _enlarged(self, scale: float) -> Parallel:
        return replace(self, bin_pixels=self.bin_pixels * scale)


Geometry = FanBeam | Parallel
