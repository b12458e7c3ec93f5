"""Simulated scanner: slices at lower dose or with fewer views.

HU are converted to linear attenuation and projected, photon noise is added, and filtered
back-projection gives HU again. Steps and defaults are those of T. Humphries' group
(github.com/TDHumphries/SART-ASTRA): the same grid for both images, a single energy, no scatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.errors import BadInput
from volumes.nifti import Scan
from volumes.tomography import ramp_filter
from volumes.tomography.geometry import FanBeam, Geometry
from volumes.tomography.photon_noise import Dose, Reading
from volumes.volume import AIR_HU

_SQUARE = 1e-3  # largest relative difference between the sides of a pixel

Slice = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Acquisition:
    """Dose and views of one measurement of a slice.

    Attributes:
        dose: photons per ray; None for no noise.
        views: number of evenly spaced views of the scanner; None for all.
    """

    dose: Dose | None = field(default_factory=Dose)
    views: int | None = None


@dataclass(frozen=True)
class Image:
    """A reconstructed slice, and counts of its rays.

    Attributes:
        hu: (Y, X), air outside the circle.
        rays: number of rays.
        starved: number of rays of which no photon arrived.
        floored: number of readings that were raised to the floor.
    """

    hu: Slice
    rays: int
    starved: int
    floored: int


@dataclass(frozen=True)
class Sinogram:
    """The sinogram of a slice, without noise.

    Attributes:
        integrals: (views, bins), dimensionless.
        geometry: of the rays.
        pixel_mm: width of a pixel.
        shape: (Y, X) of the slice.
    """

    integrals: Slice
    geometry: Geometry
    pixel_mm: float
    shape: tuple[int, int]

    @property
    def largest(self) -> float:
        """The largest line integral p. The share exp(-p) of its photons arrives."""
        return float(self.integrals.max())


@dataclass(frozen=True)
class Scanner:
    """A simulated scanner with a single photon energy.

    Slices that are not square are centred in a square of air, as wide as their longer side. The
    inscribed circle of the square is scanned. Outside the circle there is air before and after,
    because not every view covers it. If the fan is too narrow for the circle, its source is moved
    away.

    Attributes:
        geometry: of the rays, in pixels of the slice.
        mu_water_per_mm: linear attenuation of water; 0.01931 per mm at about 70 keV.
        filter: window of the ramp filter, one of `ramp_filter.WINDOWS`.

    Example:
        >>> scanner = Scanner(geometry=FanBeam(views=900), filter="hann")
        >>> scanner.stride(Acquisition(dose=Dose(photons=1e5), views=60))
        15
        >>> scanner.hu(scanner.attenuation(np.array([-2000, 0, 500]))).round().tolist()
        [-1000.0, 0.0, 500.0]
    """

    geometry: Geometry = field(default_factory=FanBeam)
    mu_water_per_mm: float = 0.01931
    filter: str = "ram-lak"

    def __post_init__(self) -> None:
        if not 0 < self.mu_water_per_mm < 1:
            cause = f"between 0 and 1, not {self.mu_water_per_mm}"
            raise ValueError(f"mu_water_per_mm must lie {cause}")
        if self.filter not in ramp_filter.WINDOWS:
            known = ", ".join(ramp_filter.WINDOWS)
            raise ValueError(f"filter must be one of {known}, not {self.filter!r}")

    def attenuation(self, hu: npt.NDArray[Any]) -> Slice:
        """Linear attenuation per mm of HU. Values below air are set to air."""
        mu = self.mu_water_per_mm * (1 + np.asarray(hu, np.float32) / 1000)
        return np.maximum(mu, 0).astype(np.float32)

    def hu(self, attenuation: npt.NDArray[Any]) -> Slice:
        """HU of linear attenuation per mm. Negative values, caused by noise, are kept."""
        return (1000 * (attenuation / self.mu_water_per_mm - 1)).astype(np.float32)

    def stride(self, acquisition: Acquisition) -> int:
        """The step between the views of an acquisition: it uses every stride-th view.

        Raises:
            ValueError: if its views cannot be evenly spaced.
        """
        views = self.geometry.views if acquisition.views is None else acquisition.views
        if not 0 < views <= self.geometry.views or self.geometry.views % views:
            raise ValueError(f"{self.geometry.views} views cannot be thinned evenly to {views}")
        return self.geometry.views // views

    def project(self, hu: npt.NDArray[Any], pixel_mm: float) -> Sinogram:
        """Line integrals of a slice.

        Args:
            hu: (Y, X), finite.
            pixel_mm: width of its square pixels, which makes the integrals dimensionless.
        """
        from volumes.tomography import projection

        shape = hu.shape[0], hu.shape[1]
        size = max(shape)
        square = np.zeros((size, size), np.float32)
        seen = np.where(circle(shape), self.attenuation(hu) * np.float32(pixel_mm), 0)
        square[_middle(shape)] = seen
        geometry = self.geometry.seeing(size)
        integrals = projection.project(square[None], geometry).numpy()[0]
        return Sinogram(integrals, geometry, pixel_mm, shape)

    def scan(
        self, sinogram: Sinogram, acquisitions: Sequence[Acquisition], seed: int,
        case: str | int, index: int,
    ) -> list[Image]:  # fmt: skip
        """The reconstructed images of one slice, one per acquisition.

        Acquisitions with the same dose have the same readings: a sparse view uses every n-th view
        of the full scan.

        Args:
            sinogram: of the slice.
            acquisitions: dose and views of each image.
            seed: of the noise.
            case: name of the case, or index of the training example.
            index: of the slice in its volume. The noise depends on seed, case, index and dose.
        """
        readings: dict[Dose | None, Reading] = {}
        images = []
        for acquisition in acquisitions:
            dose = acquisition.dose
            if dose not in readings:
                readings[dose] = _measured(dose, sinogram.integrals, seed, case, index)
            stride = self.stride(acquisition)
            images.append(self._reconstruct(readings[dose].every(stride), sinogram, stride))
        return images

    def _reconstruct(self, reading: Reading, sinogram: Sinogram, stride: int) -> Image:
        from volumes.tomography import projection

        size = max(sinogram.shape)
        geometry = sinogram.geometry.every(stride)
        square = projection.reconstruct(reading.integrals[None], geometry, size, self.filter)
        mu = square.numpy()[0][_middle(sinogram.shape)] / np.float32(sinogram.pixel_mm)
        hu = np.where(circle(sinogram.shape), self.hu(mu), np.float32(AIR_HU))
        starved, floored = int(reading.starved.sum()), int(reading.floored.sum())
        return Image(hu, reading.integrals.size, starved, floored)


def pixel_mm(scan: Scan) -> float:
    """The width of a scan's pixels.

    Raises:
        BadInput: if they are not square. The field of view would not be a circle.
    """
    _, y, x = scan.spacing_mm
    if abs(y - x) > _SQUARE * x:
        cause = f"has pixels of {y:.4g} x {x:.4g} mm, and scanners make square ones"
        raise BadInput(scan.path, cause, "Resample it to square pixels")
    return x


def circle(shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(Y, X) mask of the scanned circle. Its diameter is the longer side of the slice."""
    size = max(shape)
    squared = (np.arange(size) - (size - 1) / 2) ** 2
    return np.asarray(squared[:, None] + squared <= (size / 2) ** 2)[_middle(shape)]


def _middle(shape: tuple[int, int]) -> tuple[slice, slice]:
    """The index of a slice in its square."""
    first = [(max(shape) - n) // 2 for n in shape]
    return slice(first[0], first[0] + shape[0]), slice(first[1], first[1] + shape[1])


def _measured(
    dose: Dose | None, integrals: Slice, seed: int, case: str | int, index: int
) -> Reading:
    if dose:
        return dose.measure(integrals, seed, case, index)
    none = np.zeros(integrals.shape, bool)
    return Reading(integrals, none, none)
