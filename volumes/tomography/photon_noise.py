"""Dose: how many photons a ray is given, and what the detector reads of those that arrive."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volumes import random_draws

Sinogram = npt.NDArray[np.float32]

FULL_DOSE = 1e6  # photons a ray, of a scan that is not meant to be noisy


def told(photons: float) -> float:
    """What a network that sees the dose is told: 0 at 1e5 photons a ray, 1 at ten times as many.

    The noise of a ray has a variance of one over its photons: their logarithm makes equal steps of
    equal ratios.
    """
    return math.log10(photons / 1e5)


@dataclass(frozen=True)
class Reading:
    """What the detector says of a slice.

    Attributes:
        integrals: (views, bins) noisy line integrals.
        starved: (views, bins) where no photon arrived.
        floored: (views, bins) where the reading lay below the floor and was raised to it.
    """

    integrals: Sinogram
    starved: npt.NDArray[np.bool_]
    floored: npt.NDArray[np.bool_]

    def every(self, stride: int) -> Reading:
        """What a scan of every stride-th view alone would have read."""
        return Reading(self.integrals[::stride], self.starved[::stride], self.floored[::stride])


@dataclass(frozen=True)
class Dose:
    """Photons are counted: N ~ Poisson(I0 exp(-p)), and electronics add N(0, sigma_e^2).

    Attributes:
        photons: I0, that leave the source along every ray.
        electronic: sigma_e, in photons; 5 to 10 in scanners (Zeng et al., IEEE Trans. Nucl. Sci.
            62, 2015), 0 for counting alone.
        floor: the least reading, in photons, since a logarithm wants a positive one. Zeros read as
            one photon would; LoDoPaB-CT (Leuschner et al., Sci. Data 8, 2021) takes 0.1.
    """

    photons: float = 1e5
    electronic: float = 0.0
    floor: float = 1.0

    def __post_init__(self) -> None:
        # numpy draws no Poisson number beyond 2^63.
        if not 0 < self.photons <= 1e15:
            raise ValueError(f"photons must lie between 0 and 1e15, not {self.photons}")
        if not 0 <= self.electronic < math.inf:
            raise ValueError(f"electronic must not be negative, not {self.electronic}")
        if not 0 < self.floor < self.photons:
            raise ValueError(f"floor must lie between 0 and the photons, not {self.floor}")

    def measure(self, integrals: Sinogram, seed: int, case: str | int, index: int) -> Reading:
        """Measures a slice; the noise is a function of (seed, case, index, photons).

        Args:
            integrals: (views, bins) without noise.
            seed: of the noise.
            case: name of the case, or number of the training example.
            index: of the slice in its volume.
        """
        rng = random_draws.rng(seed, "photons", case, index, float(self.photons).hex())
        photons = rng.poisson(self.photons * np.exp(-integrals.astype(np.float64)))
        readings = photons.astype(np.float64)
        if self.electronic:
            readings += self.electronic * rng.standard_normal(readings.shape)
        floored = readings < self.floor
        readings[floored] = self.floor
        noisy = np.log(self.photons / readings).astype(np.float32)
        return Reading(noisy, photons == 0, floored)
