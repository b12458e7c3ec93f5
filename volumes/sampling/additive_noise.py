"""Additive noise: noisy = clean + sigma n, where n has unit variance and a given spectrum."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from volumes import random_draws
from volumes.sampling.ranges import Range, ends, middle
from volumes.volume import HU, Slices, Unit, Volume
from volumes.window import Window

_SPREADS = ("even", "log")


class Drawn(NamedTuple):
    """The noise of one training example.

    Attributes:
        sigma: standard deviation as a fraction of the window.
        spectrum: (S,) float32, see `noise_spectrum.Spectrum.vector`; (0,) for white noise.
    """

    sigma: float
    spectrum: npt.NDArray[np.float32]


@dataclass(frozen=True)
class AdditiveNoise(ABC):
    """Base class of white and coloured noise.

    Attributes:
        sigma: standard deviation as a fraction of the window (0.10 of [-1000, 400] HU is 140 HU),
            or a range (low, high) from which each example draws its value.
        spread: how sigma is drawn from its range: "even" (uniform) or "log" (log-uniform).
    """

    sigma: Range = 0.10
    spread: str = field(default="even", kw_only=True)

    additive: ClassVar[Literal[True]] = True
    scanned: ClassVar[Literal[False]] = False
    file: ClassVar[None] = None
    typical_photons: ClassVar[None] = None
    name: ClassVar[str]

    def __post_init__(self) -> None:
        low, high = self.range
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"noise.sigma must be positive, or a range low,high, not {self.sigma}")
        if self.spread not in _SPREADS:
            raise ValueError(f"noise.spread must be even or log, not {self.spread!r}")
        if self.spread == "log" and low == 0:
            raise ValueError(f"noise.sigma must be above 0 if noise.spread is log, not {low}")

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest sigma; equal if sigma is one number."""
        return ends(self.sigma)

    @property
    def typical(self) -> float:
        """The sigma of validation: the middle of the range."""
        return middle(self.range, log=self.spread == "log")

    @property
    def bounds(self) -> tuple[float, float]:
        """Range in window units of nearly all noisy values of a clipped clean image."""
        sigma = self.range[1]
        # The floor is below noisy air. The ceiling keeps bone near the values seen in training.
        return -max(6 * sigma, 0.1), 1 + 3 * sigma

    @abstractmethod
    def at(self, level: float) -> Mapping[str, Self]:
        """This noise with one sigma, by its label in tables.

        Raises:
            ValueError: if the level is not positive.
        """

    @property
    @abstractmethod
    def colour(self) -> str:
        """The spectrum in words, for reports."""

    def describe(self, window: Window) -> str:
        """The noise in words, for reports."""
        spread = f"{self.typical * window.width_hu:g} {window.unit_name}"
        return f"{self.colour} and Gaussian, standard deviation {spread}"

    def about(self) -> dict[str, Any]:
        """The parameters of the noise that `degrade` adds, as plain data."""
        return {"sigma": self.typical}

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Drawn:
        """The noise of one training example."""

    @abstractmethod
    def add(self, clean: Any, sigma: Any, spectrum: Any, keys: Any) -> Any:
        """Adds noise on the device; each example has its own key.

        Args:
            clean: (B, Z, Y, X, C) float32 tensor in window units, of static shape.
            sigma: (B,) float32 tensor, from `draw`.
            spectrum: (B, S) float32 tensor, from `draw`.
            keys: (B, 2) int32 tensor, from `random_draws.device_key`.
        """

    @abstractmethod
    def slice_noise(self, clean: Unit, rng: np.random.Generator) -> Unit:
        """(Y, X) noise of unit variance for one clean slice, computed on the host."""

    def reference(self, volume: Volume, slices: Slices) -> HU:
        """(Z, Y, X) clean slices for comparison: unchanged."""
        hu: HU = volume.hu[slices]
        return hu

    def degrade(self, clean: Unit, sigma: float, seed: int, case: str, first: int = 0) -> Unit:
        """Adds the noise of a case to its slices on the host, a slice at a time.

        The noise of a slice depends only on (seed, case, index of the slice), so a block of
        slices gets the same noise as in the whole volume.

        Args:
            clean: (Z, Y, X) in window units.
            sigma: as a fraction of the window.
            seed: of the noise.
            case: name of the case.
            first: index in the volume of the block's first slice.
        """
        noisy = np.empty_like(clean, np.float32)
        for z, slice_ in enumerate(clean):
            rng = random_draws.rng(seed, "noise", case, first + z)
            noisy[z] = slice_ + np.float32(sigma) * self.slice_noise(slice_, rng)
        return noisy

    def noisy(self, volume: Volume, clean: Unit, window: Window, seed: int, first: int = 0) -> Unit:
        """The noisy image of a case's slices at the typical sigma; see `degrade`."""
        return self.degrade(clean, self.typical, seed, volume.case, first)


def percent(sigma: float) -> str:
    """The label of a noise level in tables: 0.05 is 5%.

    Raises:
        ValueError: if it is not positive.
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"a noise level must be positive, not {sigma}")
    return f"{100 * sigma:g}%"
