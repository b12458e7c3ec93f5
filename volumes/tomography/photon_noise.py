"""Photon noise: the dose of a ray, and the reading of the detector."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volumes import random_draws

Integrals = npt.NDArray[np.float32]

FULL_DOSE = 1e6  # photons per ray of a full-dose scan


def dose_text(photons: float) -> str:
    """A number of photons as it is typed, in messages, tables and names of files.

    Example:
        >>> dose_text(100000), dose_text(150000.0), dose_text(2e6)
        ('1e5', '1.5e5', '2e6')
    """
    digits, _, exponent = f"{photons:.9e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def log_dose(photons: float) -> float:
    """The dose as the input of a dose-aware network: log10(photons / 1e5).

    The variance of a ray is one over its number of photons. The logarithm turns equal ratios of
    doses into equal steps.

    Args:
        photons: per ray.

    Example:
        >>> log_dose(1e5), log_dose(1e6)
        (0.0, 1.0)
    """
    return math.log10(photons / 1e5)


@dataclass(frozen=True)
class Reading:
    """The detector readings of a slice.

    Attributes:
        integrals: (views, bins) noisy line integrals.
        starved: (views, bins) mask of the rays of which no photon arrived.
        floored: (views, bins) mask of the readings below the floor, which were raised to it.
    """

    integrals: Integrals
    starved: npt.NDArray[np.bool_]
    floored: npt.NDArray[np.bool_]

    def every(self, stride: int) -> Reading:
        """The readings of every stride-th view: those of a scan with these views only."""
        return Reading(self.integrals[::stride], self.starved[::stride], self.floored[::stride])


@dataclass(frozen=True)
class Dose:
    """The photons of a ray, with Poisson and electronic noise.

    The reading is N = Poisson(I0 exp(-p)) + Normal(0, sigma_e^2) for a line integral p.

    Attributes:
        photons: I0, the photons that leave the source along every ray.
        electronic: sigma_e in photons; 5 to 10 in scanners (Zeng et al., IEEE Trans. Nucl. Sci.
            62, 2015), 0 for photon noise only.
        floor: the smallest reading in photons; its logarithm must exist. With 1, a zero is read as
            one photon. LoDoPaB-CT (Leuschner et al., Sci. Data 8, 2021) uses 0.1.

    Example:
        >>> integrals = np.full((100, 100), 2.0, np.float32)
        >>> reading = Dose(photons=1e4).measure(integrals, seed=0, case="a", index=0)
        >>> reading.integrals.shape, int(reading.starved.sum())
        ((100, 100), 0)
    """

    photons: float = 1e5
    electronic: float = 0.0
    floor: float = 1.0

    def __post_init__(self) -> None:
        # numpy cannot draw Poisson numbers above 2^63.
        if not 0 < self.photons <= 1e15:
            raise ValueError(f"photons must lie between 0 and 1e15, not {self.photons}")
        if not 0 <= self.electronic < math.inf:
            raise ValueError(f"electronic must not be negative, not {self.electronic}")
        if not 0 < self.floor < self.photons:
            raise ValueError(f"floor must lie between 0 and the photons, not {self.floor}")

    def measure(self, integrals: Integrals, seed: int, case: str | int, index: int) -> Reading:
        """The readings of a slice. The noise is a function of (seed, case, index, photons).

        Args:
            integrals: (views, bins) line integrals without noise.
            seed: of the noise.
            case: name of the case, or index of the training example.
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
