"""Ensembles: realisations of a phantom or a slice on the simulated scanner, at one dose.

A sinogram is computed once. Each realisation draws new photons. The scanner is the one of `engine
degrade`: a single energy, no scatter, no electronic noise, filtered back-projection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from volumes.phantoms.lesions import lesion_places
from volumes.phantoms.rods import Rod, RodPhantom, rod_integrals
from volumes.tomography.photon_noise import Dose
from volumes.tomography.scanner import Acquisition, Scanner, Sinogram, circle
from volumes.volume import AIR_HU, Unit

_MARGIN = 1.12  # side of the slice over the diameter of the phantom
_MULTIPLE = 16  # of the side in pixels
_SKIN_MM = 5.0  # where a blur mixes the body with air


@dataclass(frozen=True, eq=False)
class Module:
    """What is scanned: one slice, and what is known about it.

    Attributes:
        name: of its noise: two modules of one name have the same.
        sinogram: without noise.
        true_hu: (N, N) HU.
        body: (N, N) mask of where noise and errors are measured.
        pixel_mm: width of the pixels.
    """

    name: str
    sinogram: Sinogram
    true_hu: Unit
    body: npt.NDArray[np.bool_]
    pixel_mm: float

    def scanned(self, scanner: Scanner, photons: float, count: int, seed: int) -> Ensemble:
        """Realisations at one dose, each with its own noise."""
        acquisition, stack = Acquisition(Dose(photons)), []
        for i in range(count):
            key = f"characterize {self.name}"
            (image,) = scanner.scan(self.sinogram, [acquisition], seed, key, i)
            stack.append(image.hu)
        hu = np.stack(stack)
        return Ensemble(self, photons, hu, ensemble_sigma(hu, self.body))


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Realisations of a module at one dose.

    Attributes:
        module: that was scanned.
        photons: per ray.
        stack_hu: (N, Y, X) reconstructed, or denoised.
        sigma_hu: standard deviation of the noise of the reconstruction within the body.
    """

    module: Module
    photons: float
    stack_hu: Unit
    sigma_hu: float


def ensemble_sigma(stack_hu: Unit, inside: npt.NDArray[np.bool_]) -> float:
    """Standard deviation over realisations, root mean square over the pixels of a mask, in HU."""
    return float(np.sqrt(np.mean(stack_hu[:, inside].var(axis=0, ddof=1, dtype=np.float64))))


def phantom_module(phantom: RodPhantom, scanner: Scanner, pixel_mm: float) -> Module:
    """A phantom in a slice that is 12 % wider. Its body ends 5 mm before its edge."""
    wide = _MARGIN * phantom.diameter_mm / pixel_mm
    size = math.ceil(wide / _MULTIPLE) * _MULTIPLE
    body = phantom.body.distance_mm(size, pixel_mm) < phantom.diameter_mm / 2 - _SKIN_MM
    sinogram = phantom.sinogram(scanner, size, pixel_mm)
    return Module(phantom.name, sinogram, phantom.image(size, pixel_mm), body, pixel_mm)


@dataclass(frozen=True, eq=False)
class LesionSlice:
    """A real slice twice, with and without lesions.

    Attributes:
        absent, present: the modules.
        lesions: their places; `hu` is the contrast.
    """

    absent: Module
    present: Module
    lesions: tuple[Rod, ...]


def lesion_slice(hu: npt.NDArray[np.float32], pixel_mm: float, scanner: Scanner) -> LesionSlice:
    """A real slice with lesions in its soft tissue.

    The noise of the slice itself is part of the object: it is the same in every realisation.

    Args:
        hu: (Y, X) finite HU; a slice that is not square is centred in air.
        pixel_mm: width of its pixels.
        scanner: that scans it again.
    """
    size = max(hu.shape)
    square = np.full((size, size), AIR_HU, np.float32)
    y, x = ((size - n) // 2 for n in hu.shape)
    square[y : y + hu.shape[0], x : x + hu.shape[1]] = hu
    square[~circle(square.shape)] = AIR_HU
    lesions = lesion_places(square, pixel_mm)
    absent = scanner.project(square, pixel_mm)
    steps = [(rod, rod.hu) for rod in lesions]
    added = rod_integrals(steps, absent.geometry, scanner.mu_water_per_mm, pixel_mm)
    present = replace(absent, integrals=absent.integrals + added)
    body = square > -300
    return LesionSlice(
        Module("slice without lesions", absent, square, body, pixel_mm),
        Module("slice with lesions", present, square, body, pixel_mm),
        lesions,
    )
