"""A volume: what one scan is, once its file's conventions are behind us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from volumes.errors import BadInput
from volumes.storage.cache_folder import Shelf

AIR_HU = -1000

Shape = tuple[int, int, int]
SpacingMm = tuple[float, float, float]
Odd = Mapping[Path, tuple[str, ...]]  # what is odd about files, in words
HU = npt.NDArray[np.int16]
Unit = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Volume:
    """One scan in Hounsfield units.

    Attributes:
        hu: (Z, Y, X), Z from superior to inferior, Y from anterior to posterior, X from the
            patient's right to left: the order in which KiTS19 stores its scans.
        spacing_mm: distance of neighbouring voxels along (Z, Y, X).
        case: name of the case, which keys its noise and its place in a split.
        sha256: of the file that it was read from; of its clean image where a set of pairs holds it.
        odd: what is odd about its voxels, and about those of the noisy recording.
        noisy_hu: (Z, Y, X), a noisy recording of the same voxels, air where `hu` had padding; None
            where the case has none.
        noisy_sha256: of the file of that recording; empty where it lies in the clean one's.
        kept: shelf on which sinograms of its slices are kept; None where they are not.
        padded: (Z, Y, ceil(X / 8)) uint8, bits that say where there was padding; None where that is
            not known.
    """

    hu: HU
    spacing_mm: SpacingMm
    case: str
    sha256: str
    odd: Odd = field(default_factory=dict)
    noisy_hu: HU | None = None
    noisy_sha256: str = ""
    kept: Shelf | None = None
    padded: npt.NDArray[np.uint8] | None = None

    def recorded(self) -> HU:
        """The noisy recording.

        Raises:
            BadInput: where there is none.
        """
        if self.noisy_hu is None:
            cause = "has no noisy scan beside it"
            raise BadInput(self.case, cause, "Name one by noise.file, or simulate noise")
        return self.noisy_hu

    def padding(self, index: int) -> npt.NDArray[np.bool_]:
        """(Y, X) mask of the padding of a slice; none where it is not known."""
        shape = self.hu.shape[1:]
        if self.padded is None:
            return np.zeros(shape, bool)
        return np.unpackbits(self.padded[index], axis=-1, count=shape[1]).astype(bool)
