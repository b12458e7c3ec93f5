"""Noise: what turns a clean image into the noisy input of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from volumes import random_draws
from volumes.errors import BadInput
from volumes.sampling.additive_noise import AdditiveNoise, Drawn, percent
from volumes.sampling.mixed_noise import Mixed
from volumes.sampling.ranges import between
from volumes.sampling.scanner_noise import Scanned
from volumes.sampling.slice_agreement import AGREE_HU, agreeing
from volumes.volume import HU, Slices, Unit, Volume
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

    def reference(self, volume: Volume, slices: Slices) -> HU:
        """(Z, Y, X) clean slices for comparison: unchanged."""
        hu: HU = volume.hu[slices]
        return hu

    def recording(self, volume: Volume) -> HU:
        """(Z, Y, X) the noisy scan.

        Raises:
            BadInput: if the volume has no recorded noisy copy.
        """
        return volume.recorded()

    def noisy(self, volume: Volume, clean: Unit, window: Window, seed: int, first: int = 0) -> Unit:
        """The recorded slices first ... first + len(clean) - 1, (Z, Y, X) in window units.

        Raises:
            BadInput: if the volume has no recorded noisy copy.
        """
        return window.unit(volume.recorded()[first : first + len(clean)])


@dataclass(frozen=True)
class AsScanned:
    """The noise that the scans have: none is added, and there is no clean image.

    Only objectives that need no clean image can learn from it, such as `NeighbourSlices`.

    Validation compares the estimate of a slice with the mean of the slices on either side of it:
    they show nearly the same anatomy, and their noise is not in the input. Voxels where their
    anatomy differs from that of the slice are left out (`slice_agreement`). The scores contain the
    noise of those slices. They say which of two networks is better on these scans, and not how far
    either is from a clean image.

    Attributes:
        apart: distance of those slices. Where slices overlap, choose it so that the distance is at
            least the slice thickness.

    Example:
        >>> AsScanned(apart=2).additive
        False
    """

    apart: int = 1

    additive: ClassVar[Literal[False]] = False
    scanned: ClassVar[Literal[False]] = False
    file: ClassVar[None] = None
    typical_photons: ClassVar[None] = None
    bounds: ClassVar[tuple[float, float]] = Recorded.bounds
    range: ClassVar[tuple[float, float]] = (math.nan, math.nan)
    typical: ClassVar[float] = math.nan

    def __post_init__(self) -> None:
        if self.apart < 1:
            raise ValueError(f"noise.apart must be at least 1, not {self.apart}")

    def describe(self, window: Window) -> str:
        """The noise in words, for reports."""
        return "that of the scans; the reference is the mean of neighbouring slices"

    def at(self, level: float) -> Mapping[str, AsScanned]:
        """Not available: the noise of a scan has no other level.

        Raises:
            ValueError: always.
        """
        raise ValueError("the noise of scans as they are has one level: leave validate_at empty")

    def reference(self, volume: Volume, slices: Slices) -> HU:
        """(Z, Y, X) float32 mean of the slices `apart` above and below; of one at the ends.

        Raises:
            BadInput: if a slice has no such neighbour.
        """
        above, below = self._neighbours(volume, slices)
        return (above + below) / np.float32(2)

    def known(self, volume: Volume, slices: Slices) -> npt.NDArray[np.bool_]:
        """(Z, Y, X) mask of the voxels that show the anatomy of the slices above and below."""
        hu = volume.hu[slices].astype(np.float32)
        agreed = (
            np.asarray(agreeing((hu - there)[None, ..., None], AGREE_HU))[0, ..., 0] > 0
            for there in self._neighbours(volume, slices)
        )
        return np.logical_and(*agreed)

    def _neighbours(self, volume: Volume, slices: Slices) -> tuple[Unit, Unit]:
        """(Z, Y, X) float32 HU of the slices `apart` above and below; twice the same at the ends.

        Raises:
            BadInput: if a slice has no such neighbour.
        """
        depth = len(volume.hu)
        if depth < 2 * self.apart:
            cause = f"has {depth} slices, too few for validation against slices {self.apart} away"
            raise BadInput(volume.case, cause, "Use other cases for validation")
        rows = np.arange(depth)[slices]
        below, above = rows - self.apart, rows + self.apart
        below, above = np.where(below < 0, above, below), np.where(above >= depth, below, above)
        return volume.hu[above].astype(np.float32), volume.hu[below].astype(np.float32)

    def recording(self, volume: Volume) -> HU:
        """(Z, Y, X) the noisy scan: the volume itself."""
        return volume.hu

    def noisy(self, volume: Volume, clean: Unit, window: Window, seed: int, first: int = 0) -> Unit:
        """The slices first ... first + len(clean) - 1, (Z, Y, X) in window units."""
        return window.unit(volume.hu[first : first + len(clean)])


# Each kind has the attributes `additive` (noise is added on the device, its standard deviation is
# known), `scanned` (a simulated scanner makes whole slices on the host), `file` (name of recorded
# scans, else None), `typical_photons` (a ray, if the dose varies), `typical` and `range` (sigma).
Noise = AdditiveNoise | Mixed | Recorded | AsScanned | Scanned
