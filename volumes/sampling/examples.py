"""Training examples: example i is a function of (seed, i) only."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes import random_draws
from volumes.boxes import Box, reflected
from volumes.sampling.crops import Crop, Cut
from volumes.sampling.noise import Noise
from volumes.sampling.priors import NeighbourMean
from volumes.sampling.scanner_noise import Scanned
from volumes.volume import HU, Volume


@dataclass(frozen=True)
class Example:
    """The data from which the accelerator makes one training pair.

    Attributes:
        clean: the block of the clean volume, (Z + 2 halo, Y, X) with the slices that the prior and
            the objective need, before X is mirrored.
        noisy: the same block of the recorded or scanned noisy copy, or of the scan as it is; None
            if noise is added on the accelerator.
        mirrored: whether the accelerator mirrors X of both: it does so at no cost, the host in one
            more pass.
        weights: (Z, Z + 2 halo) of the prior; empty (Z, 0) without a prior.
        sigma: of the noise, as a fraction of the window; NaN if unknown.
        spectrum: (S,) of the noise, see `noise_spectrum.Spectrum.vector`; (0,) for white noise.
        dose: of the simulated scanner, as the network receives it; NaN without a dose.
        key: (2,) int32 of the noise.
        slices: (Z + 2 halo,) index of each slice in its volume.
        case: name of the case of the crop.
        box: of the crop in its volume, without halo.
    """

    clean: Cut
    noisy: Cut | None
    mirrored: bool
    weights: npt.NDArray[np.float32]
    sigma: float
    spectrum: npt.NDArray[np.float32]
    dose: float
    key: npt.NDArray[np.int32]
    slices: npt.NDArray[np.intp]
    case: str
    box: Box

    @property
    def hu(self) -> HU:
        """(Z + 2 halo, Y, X) clean HU in the datatype of the volume, read anew."""
        return self._voxels(self.clean)

    @property
    def noisy_hu(self) -> HU:
        """(Z + 2 halo, Y, X) noisy HU, read anew; empty (0, Y, X) without a noisy copy."""
        return self.hu[:0] if self.noisy is None else self._voxels(self.noisy)

    def _voxels(self, cut: Cut) -> HU:
        return cut.voxels()[..., :: -1 if self.mirrored else 1]


@dataclass(frozen=True)
class Examples:
    """An endless sequence of examples.

    Each round of len(volumes) examples (of groups of examples if the crop has `patches`) visits
    every volume once, in a new random order.

    Attributes:
        volumes: of the training.
        crop: draws box and pose.
        noise: of the examples.
        prior: of the network, or None.
        seed: of the training.
        margin: slices above and below the crop that the objective needs.
    """

    volumes: Sequence[Volume]
    crop: Crop
    noise: Noise
    prior: NeighbourMean | None
    seed: int
    margin: int = 0
    # The last order and slices of each thread: its next example may need the same ones.
    _last: threading.local = field(
        default_factory=threading.local, init=False, repr=False, compare=False
    )

    @property
    def dtype(self) -> np.dtype[Any]:
        """int16, or float32 if a volume has values that are not whole numbers."""
        arrays = [v.hu for v in self.volumes]
        arrays += [v.noisy_hu for v in self.volumes if v.noisy_hu is not None]
        return np.result_type(np.int16, *{array.dtype for array in arrays})

    @property
    def halo(self) -> int:
        """Slices read above and below the crop."""
        return max(self.prior.halo if self.prior else 0, self.margin)

    def __getitem__(self, i: int) -> Example:
        """Example i."""
        leader, volume = self._leader(i), self._volume(i)
        rng = random_draws.rng(self.seed, "crop", i)
        box, drawn = self.crop.draw(_shape(volume.hu), rng)
        pose, mirrored = drawn.apart()
        if leader != i:
            led, _ = self.crop.draw(_shape(volume.hu), random_draws.rng(self.seed, "crop", leader))
            box = Box((led.start[0], *box.start[1:]), box.shape)
        first, length = box.start[0], box.shape[0]
        halo_box = Box(
            (first - self.halo, *box.start[1:]), (length + 2 * self.halo, *box.shape[1:])
        )
        sigma, spectrum = math.nan, np.zeros(0, np.float32)
        dose = math.nan
        if self.noise.scanned:
            scanned = self._slices(self.noise, volume, halo_box, leader)
            within = Box((0, *halo_box.start[1:]), halo_box.shape)
            clean, noisy = (Cut(hu, within, pose, within.shape[1:]) for hu in scanned)
            dose = self.noise.network_dose(self._scan_rng(leader))
        else:
            clean, noisy = Cut(volume.hu, halo_box, pose, self.crop.shape[1:]), None
            if self.noise.additive:
                sigma, spectrum = self.noise.draw(rng)
            else:
                noisy = replace(clean, hu=self.noise.recording(volume))
        weights = np.zeros((length, 0), np.float32)
        if self.prior:
            # If the crop is deeper than the volume, the reflection counts as volume.
            top, bottom = min(first, 0), max(first + length, volume.hu.shape[0])
            spacing_z_mm = volume.spacing_mm[0]
            weights = self.prior.weights(first - top, length, bottom - top, spacing_z_mm)
            beyond = self.halo - self.prior.halo
            weights = np.pad(weights, ((0, 0), (beyond, beyond)))
            # In a mirrored crop the missing slices are on the other side.
            weights = weights[::-1, ::-1] if pose.mirror[0] else weights
        key = random_draws.device_key(self.seed, "noise", i)
        slices = reflected(halo_box.start[0], halo_box.shape[0], volume.hu.shape[0])
        slices = slices[:: -1 if pose.mirror[0] else 1]
        return Example(
            clean, noisy, mirrored, weights, sigma, spectrum, dose, key, slices, volume.case, box
        )

    def case(self, i: int) -> str:
        """The name of the case of example i. No voxel is read."""
        return self._volume(i).case

    def _leader(self, i: int) -> int:
        """Index of the first example that shares its slices with example i."""
        return i - i % self.crop.patches

    def _volume(self, i: int) -> Volume:
        round_, turn = divmod(self._leader(i) // self.crop.patches, len(self.volumes))
        if getattr(self._last, "round", None) != round_:
            order = random_draws.rng(self.seed, "order", round_).permutation(len(self.volumes))
            self._last.round, self._last.order = round_, order.tolist()
        return self.volumes[int(self._last.order[turn])]

    def _slices(self, noise: Scanned, volume: Volume, box: Box, leader: int) -> tuple[HU, HU]:
        """The whole slices of a box, clean and noisy, reflected beyond the ends of the volume."""
        if getattr(self._last, "leader", None) != leader:
            rows = reflected(box.start[0], box.shape[0], volume.hu.shape[0])
            slices, place = np.unique(rows, return_inverse=True)
            clean = noise.reference(volume, slices)
            rng = self._scan_rng(leader)
            noisy = noise.example(volume, slices.tolist(), rng, self.seed, leader)
            self._last.leader, self._last.slices = leader, (clean[place], noisy[place])
        both: tuple[HU, HU] = self._last.slices
        return both

    def _scan_rng(self, leader: int) -> np.random.Generator:
        return random_draws.rng(self.seed, "scan", leader)


def _shape(hu: HU) -> tuple[int, int, int]:
    z, y, x = hu.shape
    return z, y, x
