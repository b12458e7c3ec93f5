"""A volume: what one scan is, once its file's conventions are behind us."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volumes.refusals import BadInput

AIR_HU = -1000

Shape = tuple[int, int, int]
SpacingMm = tuple[float, float, float]
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
        saturated: voxels whose value int16 could not hold, here or in the noisy recording.
        noisy_hu: (Z, Y, X), a noisy recording of the same voxels, air where `hu` had padding; None
            where the case has none.
        noisy_sha256: of the file of that recording; empty where it lies in the clean one's.
    """

    hu: HU
    spacing_mm: SpacingMm
    case: str
    sha256: str
    saturated: int = 0
    noisy_hu: HU | None = None
    noisy_sha256: str = ""

    def recorded(self) -> HU:
        """The noisy recording.

        Raises:
            BadInput: where there is none.
        """
        if self.noisy_hu is None:
            cause = "has no noisy scan beside it"
            raise BadInput(self.case, cause, "Name one by noise.file, or simulate noise")
        return self.noisy_hu
