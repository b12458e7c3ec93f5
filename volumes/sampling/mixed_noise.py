"""Mixed noise: several kinds of additive noise, one kind for each training example."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from volumes.sampling.additive_noise import AdditiveNoise, Drawn
from volumes.sampling.coloured_noise import Coloured
from volumes.sampling.noise_spectrum import Spectrum
from volumes.volume import HU, Slices, Unit, Volume
from volumes.window import Window

_WHITE = Spectrum(exponent=0.0, cutoff=math.inf)


@dataclass(frozen=True)
class Mixed:
    """Noise of several additive kinds, each with its share of the examples.

    Validation scores every kind at each level of `validate_at`. Without `validate_at` it scores
    the first kind.

    Attributes:
        kinds: such as `(Gaussian(0.1), Coloured(0.1))`.
        shares: of each kind, in any unit; equal if empty.

    Example:
        >>> from volumes import Gaussian
        >>> noise = Mixed((Gaussian(0.1), Coloured(0.1)), shares=(3, 1))
        >>> list(noise.at(0.05))
        ['5%', 'coloured 5%']
    """

    kinds: tuple[AdditiveNoise, ...]
    shares: tuple[float, ...] = field(default=())

    additive: ClassVar[Literal[True]] = True
    scanned: ClassVar[Literal[False]] = False
    file: ClassVar[None] = None
    typical_photons: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not self.kinds or not all(isinstance(kind, AdditiveNoise) for kind in self.kinds):
            raise ValueError("noise.kinds must be additive: Gaussian or Coloured")
        names = [kind.name for kind in self.kinds]
        if len(set(names)) < len(names):
            raise ValueError(f"noise.kinds must differ, not {', '.join(names)}")
        if self.shares and (
            len(self.shares) != len(self.kinds)
            or not all(0 < share < math.inf for share in self.shares)
        ):
            cause = f"one positive number for each of {len(self.kinds)} kinds"
            raise ValueError(f"noise.shares must be {cause}, not {self.shares}")

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest sigma of all kinds."""
        ranges = [kind.range for kind in self.kinds]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    @property
    def typical(self) -> float:
        """The sigma of validation: that of the first kind."""
        return self.kinds[0].typical

    @property
    def bounds(self) -> tuple[float, float]:
        """The widest of all kinds; see `AdditiveNoise.bounds`."""
        lows, highs = zip(*(kind.bounds for kind in self.kinds), strict=True)
        return min(lows), max(highs)

    def at(self, level: float) -> Mapping[str, AdditiveNoise]:
        """Every kind with one sigma, by its label; see `AdditiveNoise.at`."""
        return {label: noise for kind in self.kinds for label, noise in kind.at(level).items()}

    def describe(self, window: Window) -> str:
        """The noise in words, for reports."""
        return "; ".join(kind.describe(window) for kind in self.kinds)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Kind, sigma and spectrum of one training example."""
        shares = np.array(self.shares or (1.0,) * len(self.kinds))
        kind = self.kinds[int(rng.choice(len(self.kinds), p=shares / shares.sum()))]
        sigma, spectrum = kind.draw(rng)
        return Drawn(sigma, spectrum if spectrum.size else _WHITE.vector())

    def add(self, clean: Any, sigma: Any, spectrum: Any, keys: Any) -> Any:
        """Adds noise on the device; see `AdditiveNoise.add`. White noise has a flat spectrum."""
        thick = any(kind.thickness != 0.0 for kind in self.kinds if isinstance(kind, Coloured))
        coloured = Coloured(self.range, thickness=1.0 if thick else 0.0)
        return coloured.add(clean, sigma, spectrum, keys)

    def reference(self, volume: Volume, slices: Slices) -> HU:
        """(Z, Y, X) clean slices for comparison: unchanged."""
        hu: HU = volume.hu[slices]
        return hu

    def noisy(self, volume: Volume, clean: Unit, window: Window, seed: int, first: int = 0) -> Unit:
        """The noisy image of a case's slices, with noise of the first kind."""
        return self.kinds[0].noisy(volume, clean, window, seed, first)
