"""Rod phantoms: a cylinder with rods along Z, as physicists scan them to measure image quality.

The cross-section is a set of discs, so both the line integrals and the area that a disc covers of
each pixel are computed from the discs, not from an image: nothing is lost to a pixel grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volumes.tomography.geometry import Geometry
from volumes.tomography.scanner import Scanner, Sinogram
from volumes.volume import AIR_HU

REGION_OF_DIAMETER = 3.0  # side of the region of an observer, in diameters of the largest rod
_PARTS = 4  # of a bin: its reading is the mean of their integrals
_PARTS_OF_PIXEL = 8  # along Y and X

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rod:
    """A rod along Z. Its axis is given in mm from the centre, x to the right and y down.

    Attributes:
        name: in tables, such as "acrylic".
        x_mm, y_mm: of its axis.
        diameter_mm: of its cross-section.
        hu: of its material.
    """

    name: str
    x_mm: float
    y_mm: float
    diameter_mm: float
    hu: float

    @property
    def radius_mm(self) -> float:
        """Half the diameter."""
        return self.diameter_mm / 2

    def distance_mm(self, size: int, pixel_mm: float) -> Array:
        """(size, size) distance of every pixel's centre from the axis."""
        at = (np.arange(size) - (size - 1) / 2) * pixel_mm
        return np.asarray(np.hypot(at[:, None] - self.y_mm, at - self.x_mm))

    def region(self, size: int, pixel_mm: float, side_mm: float) -> tuple[slice, slice]:
        """The square region (Y, X) of a slice around the axis; an odd number of pixels wide.

        Raises:
            ValueError: if it is not inside the slice.
        """
        reach = round(side_mm / pixel_mm / 2)
        y, x = (round(mm / pixel_mm + (size - 1) / 2) for mm in (self.y_mm, self.x_mm))
        if min(y, x) < reach or max(y, x) + reach >= size:
            raise ValueError(f"{side_mm:g} mm about {self.name} are not inside the slice")
        return slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1)


@dataclass(frozen=True)
class RodPhantom:
    """A cylinder along Z in air, with rods that neither overlap nor leave it.

    Attributes:
        name: in tables.
        diameter_mm: of the cylinder.
        rods: in it.
        hu: of its material; 0 is water.

    Example:
        >>> water = RodPhantom("water", diameter_mm=100.0, rods=(Rod("acrylic", 0, 0, 20, 120),))
        >>> image = water.image(size=64, pixel_mm=2.0)
        >>> image[32, 32].item(), image[32, 48].item(), image[0, 0].item()
        (120.0, 0.0, -1000.0)
    """

    name: str
    diameter_mm: float
    rods: tuple[Rod, ...] = ()
    hu: float = 0.0

    def __post_init__(self) -> None:
        for i, rod in enumerate(self.rods):
            if np.hypot(rod.x_mm, rod.y_mm) + rod.radius_mm > self.diameter_mm / 2:
                raise ValueError(f"{rod.name} leaves the cylinder of {self.name}")
            for other in self.rods[:i]:
                gap = np.hypot(rod.x_mm - other.x_mm, rod.y_mm - other.y_mm)
                if gap < rod.radius_mm + other.radius_mm:
                    raise ValueError(f"{rod.name} overlaps {other.name} in {self.name}")

    @property
    def body(self) -> Rod:
        """The cylinder as a rod in air."""
        return Rod(self.name, 0.0, 0.0, self.diameter_mm, self.hu)

    def image(self, size: int, pixel_mm: float) -> npt.NDArray[np.float32]:
        """(size, size) HU. A pixel at an edge is the mean of what it covers."""
        hu = AIR_HU + (self.hu - AIR_HU) * coverage(self.body, size, pixel_mm)
        for rod in self.rods:
            hu += (rod.hu - self.hu) * coverage(rod, size, pixel_mm)
        return hu.astype(np.float32)

    def sinogram(self, scanner: Scanner, size: int, pixel_mm: float) -> Sinogram:
        """The line integrals of a slice of size x size pixels, see `rod_integrals`."""
        geometry = scanner.geometry.seeing(size)
        steps = [(self.body, self.hu - AIR_HU), *((rod, rod.hu - self.hu) for rod in self.rods)]
        integrals = rod_integrals(steps, geometry, scanner.mu_water_per_mm, pixel_mm)
        return Sinogram(integrals, geometry, pixel_mm, (size, size))


def rod_integrals(
    steps: Sequence[tuple[Rod, float]], geometry: Geometry, mu_water_per_mm: float, pixel_mm: float
) -> npt.NDArray[np.float32]:
    """(views, bins) line integrals of rods: chord times step of attenuation, exact for each ray.

    A bin is the mean of 4 rays across its width. The mean is that of the integrals, not of the
    photons that arrive: for rays along an edge this leaves out the partial volume effect, a second-
    order effect.

    Args:
        steps: rods, and how far their HU stand above their surroundings.
        geometry: of the rays.
        mu_water_per_mm: attenuation of water.
        pixel_mm: width of the pixels that the geometry is measured in.
    """
    theta, s = geometry.split_bins(_PARTS).rays
    total = np.zeros(theta.shape)
    for rod, step_hu in steps:
        x, y = rod.x_mm / pixel_mm, rod.y_mm / pixel_mm
        away = s - x * np.cos(theta) - y * np.sin(theta) if x or y else s
        chord = 2 * np.sqrt(np.maximum((rod.radius_mm / pixel_mm) ** 2 - away**2, 0))
        total += chord * (step_hu / 1000 * mu_water_per_mm * pixel_mm)
    bins = total.reshape(geometry.views, geometry.bins, _PARTS).mean(axis=2)
    return np.asarray(bins, np.float32)


def coverage(rod: Rod, size: int, pixel_mm: float) -> Array:
    """(size, size) share of each pixel that a rod covers, in steps of 1 / 64."""
    distance = rod.distance_mm(size, pixel_mm)
    share = np.asarray(distance < rod.radius_mm, np.float64)
    y, x = np.nonzero(np.abs(distance - rod.radius_mm) < pixel_mm)
    part = ((np.arange(_PARTS_OF_PIXEL) + 0.5) / _PARTS_OF_PIXEL - 0.5) * pixel_mm
    middle = (size - 1) / 2
    y_mm, x_mm = (y - middle) * pixel_mm - rod.y_mm, (x - middle) * pixel_mm - rod.x_mm
    fine = np.hypot((y_mm[:, None] + part)[:, :, None], (x_mm[:, None] + part)[:, None, :])
    share[y, x] = np.mean(fine < rod.radius_mm, axis=(1, 2))
    return share


def disc_spectrum(frequency_per_mm: Array, diameter_mm: float, contrast_hu: float) -> Array:
    """The Fourier transform of a disc in HU mm^2, by radial frequency.

    It is C pi R^2 2 J1(2 pi R f) / (2 pi R f).
    """
    from scipy.special import j1

    radius = diameter_mm / 2
    x = 2 * np.pi * radius * np.asarray(frequency_per_mm, np.float64)
    safe = np.where(x > 0, x, 1.0)
    return np.asarray(contrast_hu * np.pi * radius**2 * np.where(x > 0, 2 * j1(safe) / safe, 1.0))
