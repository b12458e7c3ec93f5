"""Noise: what turns a clean image into the noisy input of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from volumes import random_draws
from volumes.sampling.additive_noise import AdditiveNoise, Drawn, percent
from volumes.sampling.mixed_noise import Mixed
from volumes.sampling.ranges import between
from volumes.sampling.scanner_noise import Scanned
from volumes.volume import HU, Unit, Volume
from volumes.window import Window


@dataclass(frozen=True)
class Gaussian(AdditiveNoise):
    """White Gaussian noise: noisy = clean + sigma n, n ~ N(0, 1).

    Example:
        >>> Gaussian(sigma=(0.005, 0.12), spread="log").range
        (0.005, 0.12)
    """

    name: ClassVar[str] = "gaussian"

    def at(self, level: float) -> Mapping[str, Gaussian]:
        """White noise with one sigma, by its label; see `AdditiveNoise.at`."""
        return {percent(level): Gaussian(level)}

    @property
    def colour(self) -> str:
        """See `AdditiveNoise.colour`."""
        return "white"

    def draw(self, rng: np.random.Generator) -> Drawn:
        """The sigma of one training example."""
        sigma = between(self.range, rng, log=self.spread == "log")
        return Drawn(sigma, np.zeros(0, np.float32))

    def add(self, clean: Any, sigma: Any, spectrum: Any, keys: Any) -> Any:
        """Adds noise on the device; see `AdditiveNoise.add`."""
        import tensorflow as tf

        shape = tuple(clean.shape[1:])
        noise = tf.stack([random_draws.normal(shape, keys[b]) for b in range(clean.shape[0])])
        return clean + tf.reshape(sigma, (-1, 1, 1, 1, 1)) * noise

    def slice_noise(self, clean: Unit, rng: np.random.Generator) -> Unit:
        """(Y, X) white noise; see `AdditiveNoise.slice_noise`."""
        return rng.standard_normal(clean.shape, np.float32)


@dataclass(frozen=True)
class Recorded:
    """Recorded noise: each clean scan has a noisy scan beside it.

    Attributes:
        file: name of the noisy scans, without their ending: `case_00000/NAME.nii.gz` beside
            `case_00000/imaging.nii.gz`. Sets of pairs (`volumes.dataset.pairs`) contain both.

    Example:
        >>> Recorded("quarter").file
        'quarter'
    """

    file: str = "noisy"

    additive: ClassVar[Literal[False]] = False
    scanned: ClassVar[Literal[False]] = False
    typical_photons: ClassVar[None] = None
    # Streaks go far below air and above the window. Values beyond these bounds are cut.
    bounds: ClassVar[tuple[float, float]] = (-0.5, 1.5)
    # The standard deviation of recorded noise is unknown.
    range: ClassVar[tuple[float, float]] = (math.nan, math.nan)
    typical: ClassVar[float] = math.nan

    def __post_init__(self) -> None:
        if not self.file or "/" in self.file or self.file == "imaging":
            raise ValueError(f"noise.file must name the noisy scans, not {self.file!r}")

    def describe(self, window: Window) -> str:
        """The noise in words, for reports."""
        return (
            f"recorded in {self.file}.nii.gz beside each clean scan, or in its set; methods are "
            "told the standard deviation of noisy - clean"
        )

    def at(self, level: float) -> Mapping[str, Recorded]:
        """Not available: recorded noise has no other level.

        Raises:
            ValueError: always.
        """
        raise ValueError("recorded noise has one level: leave validate_at empty")

    def reference(self, hu: HU) -> HU:
        """(Z, Y, X) clean slices for comparison: unchanged."""
        return hu

    def noisy(self, volume: Volume, clean: Unit, window: Window, seed: int, first: int = 0) -> Unit:
        """The recorded slices first ... first + len(clean) - 1, (Z, Y, X) in window units.

        Raises:
            BadInput: if the volume has no recorded noisy copy.
        """
        return window.unit(volume.recorded()[first : first + len(clean)])


# Each kind has the attributes `additive` (noise is added on the device, its standard deviation is
# known), `scanned` (a simulated scanner makes whole slices on the host), `file` (name of recorded
# scans, else None), `typical_photons` (a ray, if the dose varies), `typical` and `range` (sigma).
Noise = AdditiveNoise | Mixed | Recorded | Scanned
