"""Hounsfield units: whether the values of a scan can be such.

A file does not say what its values are. Two things tell: nearly all of them are finite, and some
lie below water, for every scan of a body shows air or fat. In 46 public volumes, slices, recorded
low doses and phantoms, 47 % or more of what exceeds -1500 HU lies below -20; in the central quarter
of each of the 12 volumes, where hardly any air is left, 7 % or more. Grey values, raw values of a
detector without their intercept and images scaled to [0, 1] have none there. At the other end less
than 0.1 % reach 3000 HU; bytes in the wrong order make values of any size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from volumes.errors import BadInput
from volumes.nifti.read_options import Trust
from volumes.padding import NEVER_MEASURED_HU

_BELOW_WATER_HU, _LEAST_BELOW = -20, 0.01
_NO_TISSUE_HU, _MOST_ABOVE = 10_000, 0.01
_MOST_GAPS = 0.01


class Census:
    """Counts of a scan's voxels, gathered a piece at a time."""

    def __init__(self) -> None:
        self._total = self._finite = self._measured = self._below = self._above = 0
        self._low, self._high = np.inf, -np.inf
        self._lowest_measured = np.inf

    def add(self, hu: npt.NDArray[np.float32]) -> None:
        """Counts voxels of any shape."""
        finite = hu[np.isfinite(hu)]
        measured = finite[finite > NEVER_MEASURED_HU]
        self._total += hu.size
        self._finite += finite.size
        self._measured += measured.size
        self._below += int(np.count_nonzero(measured < _BELOW_WATER_HU))
        self._above += int(np.count_nonzero(measured > _NO_TISSUE_HU))
        self._low = min(self._low, float(finite.min(initial=np.inf)))
        self._high = max(self._high, float(finite.max(initial=-np.inf)))
        self._lowest_measured = min(self._lowest_measured, float(measured.min(initial=np.inf)))

    def judged(self, path: Path, trust: Trust) -> list[str]:
        """What is odd about the voxels, in words.

        Raises:
            BadInput: where too many are not finite, or they are no Hounsfield units, unless they
                are trusted to be.
        """
        gaps = self._total - self._finite
        if gaps > _MOST_GAPS * self._total:
            cause = f"holds {gaps / self._total:.1%} voxels that are not finite"
            raise BadInput(path, cause, "Export it again with padding of -1024")
        are = "voxel that is" if gaps == 1 else "voxels that are"
        found = [f"holds {gaps:,} {are} not finite"] if gaps else []
        if self._low == self._high:
            return [*found, f"holds the one value {self._low:g}: there is nothing to see in it"]
        # One value in padding tells nothing.
        below = self._below < _LEAST_BELOW * self._measured and self._lowest_measured < self._high
        if below or self._above > _MOST_ABOVE * self._total:
            cause = f"range {self._low:g}..{self._high:g}"
            if not trust.hu:
                remedy = "Rescale it to HU, or pass --assume-hu where it is"
                raise BadInput(path, f"is not Hounsfield: {cause}", remedy)
            found.append(f"does not look like Hounsfield: {cause}")
        return found
