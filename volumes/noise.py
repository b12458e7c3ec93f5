"""Noise: how a clean image becomes the noisy one that a network is given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from volumes import draws
from volumes.scanned import Scanned
from volumes.volume import HU, Unit, Volume
from volumes.window import Window


@dataclass(frozen=True)
class Gaussian:
    """White Gaussian noise: noisy = clean + sigma n, n ~ N(0, 1).

    Attributes:
        sigma: standard deviation as a fraction of the window (0.10 of [-1000, 400] HU is 140 HU),
            or a range (low, high) from which each example draws its own.
    """

    sigma: float | tuple[float, float] = 0.10

    file: ClassVar[None] = None  # nothing is recorded

    def __post_init__(self) -> None:
        low, high = self.range
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"noise.sigma must be positive, or a range low,high, not {self.sigma}")

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest sigma, equal where there is one."""
        return self.sigma if isinstance(self.sigma, tuple) else (self.sigma, self.sigma)

    @property
    def typical(self) -> float:
        """The sigma of validation: the middle of the range."""
        return sum(self.range) / 2

    def example_sigma(self, rng: np.random.Generator) -> float:
        """The sigma of one training example."""
        low, high = self.range
        return low if low == high else float(rng.uniform(low, high))

    def reference(self, hu: HU) -> HU:
        """(Z, Y, X) clean slices as they are compared: whole."""
        return hu

    def add(self, clean: Any, sigma: Any, keys: Any) -> Any:
        """Adds noise on the accelerator, each example from its own key.

        Args:
            clean: (B, Z, Y, X, C) float32 tensor in window units, of static shape.
            sigma: (B,) float32 tensor, from `example_sigma`.
            keys: (B, 2) int32 tensor, from `draws.device_key`.
        """
        import tensorflow as tf

        shape = tuple(clean.shape[1:])
        noise = tf.stack([draws.normal(shape, keys[b]) for b in range(clean.shape[0])])
        return clean + tf.reshape(sigma, (-1, 1, 1, 1, 1)) * noise

    def degrade(self, clean: Unit, sigma: float, seed: int, case: str, first: int = 0) -> Unit:
        """Adds the noise of a case to its slices on the host, a slice at a time.

        The noise of a slice depends on (seed, case, index of the slice) only, so any block of
        slices gets what the whole volume would.

        Args:
            clean: (Z, Y, X) in window units.
            sigma: as a fraction of the window.
            seed: of the noise.
            case: name of the case.
            first: index in the volume of the block's first slice.
        """
        noisy = np.empty_like(clean, np.float32)
        for z, slice_ in enumerate(clean):
            rng = draws.rng(seed, "noise", case, first + z)
            noisy[z] = slice_ + np.float32(sigma) * rng.standard_normal(slice_.shape, np.float32)
        return noisy

    def noisy(self, volume: Volume, clean: Unit, window: Window, seed: int, first: int = 0) -> Unit:
        """The noisy image of a case's slices at the typical sigma, as `degrade` makes it."""
        return self.degrade(clean, self.typical, seed, volume.case, first)

    @property
    def bounds(self) -> tuple[float, float]:
        """Window units between which nearly all noisy values of a clipped clean image lie."""
        sigma = self.range[1]
        # Air under noise lies above the floor; bone must not lie far above what was trained on.
        return -max(6 * sigma, 0.1), 1 + 3 * sigma


@dataclass(frozen=True)
class Recorded:
    """Noise that was recorded: a noisy scan lies beside each clean one.

    Attributes:
        file: name of the noisy scans, without their ending: `case_00000/NAME.nii.gz` beside
            `case_00000/imaging.nii.gz`. Sets of pairs (`volumes.pairs`) hold their own.
    """

    file: str = "noisy"

    # Streaks reach far below air and above the window; what lies beyond is not of this window.
    bounds: ClassVar[tuple[float, float]] = (-0.5, 1.5)
    # Nothing tells the standard deviation of recorded noise.
    range: ClassVar[tuple[float, float]] = (math.nan, math.nan)
    typical: ClassVar[float] = math.nan

    def __post_init__(self) -> None:
        if not self.file or "/" in self.file or self.file == "imaging":
            raise ValueError(f"noise.file must name the noisy scans, not {self.file!r}")

    def example_sigma(self, rng: np.random.Generator) -> float:
        """Not known."""
        return math.nan

    def reference(self, hu: HU) -> HU:
        """(Z, Y, X) clean slices as they are compared: whole."""
        return hu

    def noisy(self, volume: Volume, clean: Unit, window: Window, seed: int, first: int = 0) -> Unit:
        """The recorded slices first ... first + len(clean) - 1, (Z, Y, X) in window units.

        Raises:
            BadInput: where the volume has no recorded noisy copy.
        """
        unit = window.unit(volume.recorded()[first : first + len(clean)])
        low, high = self.bounds
        return np.clip(unit, np.float32(low), np.float32(high)) if window.clip else unit


Noise = Gaussian | Recorded | Scanned
