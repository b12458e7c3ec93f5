"""Scanner noise: a simulated scan of a clean volume with fewer photons or fewer views.

Whole slices are scanned during training as by `engine degrade` (`volumes.tomography`), then cropped
like the clean slices. Every example is a new measurement; only clean sinograms are cached
(`volumes.tomography.sinogram_cache` gives their size). HU are rounded to whole numbers in the range
of int16 if those of the clean scan are. An example costs the reconstruction of all its slices.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from volumes.dataset import Case
from volumes.errors import BadInput
from volumes.nifti import Scan
from volumes.sampling.ranges import Range, between, ends, middle
from volumes.tomography.photon_noise import FULL_DOSE, Dose, log_dose
from volumes.tomography.scanner import Acquisition, Scanner, circle, pixel_mm
from volumes.tomography.sinogram_cache import sinogram
from volumes.volume import AIR_HU, HU, Slices, Unit, Volume
from volumes.window import Window


@dataclass(frozen=True)
class Scanned(ABC):
    """Base class of low-dose and sparse-view noise.

    Attributes:
        scanner: the simulated scanner.
    """

    scanner: Scanner = field(default_factory=Scanner, kw_only=True)

    additive: ClassVar[Literal[False]] = False
    scanned: ClassVar[Literal[True]] = True
    file: ClassVar[None] = None
    # Wide enough for streaks, and for pixels that no photon reached.
    bounds: ClassVar[tuple[float, float]] = (-2.0, 3.0)
    # The noise varies within an image: it has no single standard deviation.
    range: ClassVar[tuple[float, float]] = (math.nan, math.nan)
    typical: ClassVar[float] = math.nan

    @property
    @abstractmethod
    def acquisition(self) -> Acquisition:
        """The typical acquisition, used in validation."""

    @property
    def typical_photons(self) -> float | None:
        """Photons a ray of the typical acquisition; None if the dose does not vary."""
        return None

    def describe(self, window: Window) -> str:
        """The noise in words, for reports."""
        acquisition = self.acquisition
        photons = acquisition.dose.photons if acquisition.dose else math.inf
        views = f"{acquisition.views} of its views" if acquisition.views else "all of its views"
        return f"a simulated scanner, {photons:g} photons a ray, {views}, filtered back-projection"

    @abstractmethod
    def at(self, level: float) -> Mapping[str, Scanned]:
        """This noise with one dose or number of views, by its label in tables.

        Raises:
            ValueError: if the scanner has no such dose or number of views.
        """

    @abstractmethod
    def drawn(self, rng: np.random.Generator) -> Acquisition:
        """The acquisition of one training example."""

    def network_dose(self, rng: np.random.Generator) -> float:
        """The dose of `drawn` with the same generator, as a network receives it, or NaN."""
        dose = self.drawn(rng).dose
        return log_dose(dose.photons) if dose else math.nan

    def reference(self, volume: Volume, slices: Slices) -> HU:
        """(Z, Y, X) clean slices for comparison: air outside the scanner's field of view."""
        hu = volume.hu[slices]
        return np.where(circle((hu.shape[1], hu.shape[2])), hu, hu.dtype.type(AIR_HU))

    def example(
        self, volume: Volume, slices: Sequence[int], rng: np.random.Generator, seed: int, i: int
    ) -> HU:
        """(n, Y, X) slices of a volume with the noise of example i. Thread-safe.

        The noise of a slice is a function of (seed, i, index of the slice) and the photons.

        Args:
            volume: the clean scan.
            slices: their indices.
            rng: of the example.
            seed: of the training.
            i: index of the example.
        """
        acquisition = self.drawn(rng)
        # Projects only the views that are measured.
        geometry = self.scanner.geometry.every(self.scanner.stride(acquisition))
        scanner = replace(self.scanner, geometry=geometry)
        return _scan(volume, slices, scanner, Acquisition(acquisition.dose), seed, i)

    def noisy(self, volume: Volume, clean: Unit, window: Window, seed: int, first: int = 0) -> Unit:
        """Slices first ... first + len(clean) - 1 of a case, (Z, Y, X) in window units.

        They equal, in every voxel, what `engine degrade` writes with that seed.
        """
        slices = range(first, first + len(clean))
        hu = _scan(volume, slices, self.scanner, self.acquisition, seed, volume.case)
        return window.unit(hu)


@dataclass(frozen=True)
class LowDose(Scanned):
    """Low-dose noise: fewer photons, all views.

    Attributes:
        photons: emitted along every ray, or a range (low, high) from which each example draws its
            value log-uniformly.

    Example:
        >>> LowDose((1e4, 1e6)).typical_photons
        100000.0
    """

    photons: Range = 1e5

    def __post_init__(self) -> None:
        low, high = ends(self.photons)
        if not low <= high:
            raise ValueError(
                f"noise.photons must be a number, or a range low,high, not {low, high}"
            )
        for photons in (low, high):
            Dose(photons)  # refuses invalid numbers

    @property
    def acquisition(self) -> Acquisition:
        """All views, with the typical photons."""
        return Acquisition(Dose(self.typical_photons))

    @property
    def typical_photons(self) -> float:
        """The geometric mean of the range."""
        return middle(self.photons, log=True)

    def at(self, level: float) -> Mapping[str, LowDose]:
        """This noise with another number of photons; see `Scanned.at`."""
        return {f"{level:g} photons": replace(self, photons=float(level))}

    def drawn(self, rng: np.random.Generator) -> Acquisition:
        """All views, with photons drawn from the range."""
        return Acquisition(Dose(between(self.photons, rng, log=True)))


@dataclass(frozen=True)
class SparseView(Scanned):
    """Sparse-view noise: fewer views, each with the photons of a full dose.

    Attributes:
        views: number of evenly spaced views; it must divide that of the scanner.
        photons: emitted along every ray.

    Example:
        >>> SparseView(60).acquisition.views
        60
    """

    views: int = 60
    photons: float = FULL_DOSE

    def __post_init__(self) -> None:
        self.scanner.stride(self.acquisition)

    @property
    def acquisition(self) -> Acquisition:
        """The acquisition of every example."""
        return Acquisition(Dose(self.photons), self.views)

    def at(self, level: float) -> Mapping[str, SparseView]:
        """This noise with another number of views; see `Scanned.at`."""
        return {f"{level:g} views": replace(self, views=int(level))}

    def drawn(self, rng: np.random.Generator) -> Acquisition:
        """The same acquisition every time."""
        return self.acquisition


def refuse_unscannable(case: Case) -> None:
    """Refuses a case that cannot be scanned: a photograph, a pair, pixels that are not square.

    Raises:
        BadInput: with the file.
    """
    scan = case.open()
    if not isinstance(scan, Scan):
        remedy = "Name scans, or use Gaussian or recorded noise"
        raise BadInput(case.path, "holds no scan that could be scanned again", remedy)
    pixel_mm(scan)


def _scan(
    volume: Volume, slices: Sequence[int], scanner: Scanner, acquisition: Acquisition, seed: int,
    key: str | int,
) -> HU:  # fmt: skip
    limits = np.iinfo(np.int16)
    scanned = np.empty((len(slices), *volume.hu.shape[1:]), volume.hu.dtype)
    for slice_, index in zip(scanned, slices, strict=True):
        clean = sinogram(volume, int(index), scanner)
        (image,) = scanner.scan(clean, [acquisition], seed, key, int(index))
        whole = volume.hu.dtype.kind == "i"  # as in the file that `engine degrade` writes
        slice_[:] = np.clip(np.rint(image.hu), limits.min, limits.max) if whole else image.hu
        slice_[volume.padding(int(index))] = AIR_HU
    return scanned
