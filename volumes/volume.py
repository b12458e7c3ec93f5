"""A volume: one scan in Hounsfield units, independent of its file format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.errors import BadInput
from volumes.storage.cache_folder import CacheFolder

AIR_HU = -1000
# In a CT, at least this share of the measured voxels is air, lung or fat.
BELOW_WATER_HU, LEAST_BELOW = -20, 0.01

Shape = tuple[int, int, int]
SpacingMm = tuple[float, float, float]
Odd = Mapping[Path, tuple[str, ...]]  # messages about oddities of files, by path
Slices = slice | npt.NDArray[np.intp]  # of a volume, along Z
HU = npt.NDArray[Any]  # int16 if every value is a whole number, else float32
Unit = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Volume:
    """One scan in Hounsfield units.

    Attributes:
        hu: (Z, Y, X), Z from superior to inferior, Y from anterior to posterior, X from the
            patient's right to left: the order in which KiTS19 stores its scans.
        spacing_mm: distance of neighbouring voxels along (Z, Y, X).
        case: name of the case. Its noise and its side of a split depend on it.
        sha256: of its file; of its clean image if it is one of a set of pairs.
        voxels_sha256: of its voxels, see `volumes.dataset.twins`: equal for the same scan in
            another file. Empty if it is unknown.
        odd: messages about oddities of its voxels and of the noisy recording.
        noisy_hu: (Z, Y, X), a noisy recording of the same voxels, air where `hu` had padding; None
            if the case has none.
        noisy_sha256: of the file of that recording; empty if it is in the file of the clean image.
        kept: cache folder for the sinograms of its slices; None if they are not cached.
        padded: (Z, Y, ceil(X / 8)) uint8, a bit mask of the padding, which is air in `hu` and in
            `noisy_hu`; None for photographs and pairs.
    """

    hu: HU
    spacing_mm: SpacingMm
    case: str
    sha256: str
    odd: Odd = field(default_factory=dict)
    noisy_hu: HU | None = None
    noisy_sha256: str = ""
    kept: CacheFolder | None = None
    padded: npt.NDArray[np.uint8] | None = None
    voxels_sha256: str = ""

    @property
    def hashes(self) -> tuple[str, ...]:
        """What it is recognised by in another data set: its file, and its voxels if known."""
        return (self.sha256, self.voxels_sha256) if self.voxels_sha256 else (self.sha256,)

    def recorded(self) -> HU:
        """The noisy recording.

        Raises:
            BadInput: if there is none.
        """
        if self.noisy_hu is None:
            cause = "has no noisy scan beside it"
            raise BadInput(self.case, cause, "Name one with noise.file, or simulate noise")
        return self.noisy_hu

    def padding(self, slices: int | slice) -> npt.NDArray[np.bool_]:
        """(Y, X) or (Z, Y, X) mask of the padding of a slice or of slices."""
        if self.padded is None:
            return np.zeros(self.hu[slices].shape, bool)
        count = self.hu.shape[2]
        return np.unpackbits(self.padded[slices], axis=-1, count=count).astype(bool)
