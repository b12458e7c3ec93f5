"""HU check: whether the values of a scan are plausible Hounsfield units.

A NIfTI file does not declare the unit of its values. Plausible scans have these properties:

- Nearly all values are finite.
- Some values are below water, because every scan of a body contains air or fat. In 46 public
  volumes, slices, recorded low doses and phantoms, at least 47 % of the values above -1500 HU are
  below -20 HU; in the central quarter of each of the 12 volumes, which contains hardly any air, at
  least 7 %. Grey values, detector values without intercept, and images in [0, 1] have none.
- Fewer than 0.1 % of the voxels reach 3000 HU, while a wrong byte order gives values of any size.

`volumes.nifti.hu_histogram` recognises other units in the values beside constants.

A label map (a segmentation, a mask) holds few values, all of them whole numbers from 0 to 255.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from volumes.errors import BadInput, LabelMap
from volumes.nifti.hu_histogram import Histogram
from volumes.nifti.read_options import ReadOptions
from volumes.padding import NEVER_MEASURED_HU
from volumes.volume import BELOW_WATER_HU, LEAST_BELOW

_NO_TISSUE_HU, _MOST_ABOVE = 10_000, 0.01
_MOST_GAPS = 0.01
_LARGEST_LABEL, _MOST_LABELS = 255, 128  # label maps of whole bodies have about 120


class Census:
    """Counts of a scan's voxels, accumulated piece by piece."""

    def __init__(self) -> None:
        self._total = self._finite = self._measured = self._below = self._above = 0
        self._low, self._high = np.inf, -np.inf
        self._lowest_measured = np.inf
        self._whole, self._labels = True, set[float]()
        self._histogram = Histogram()

    def add(self, hu: npt.NDArray[np.float32]) -> None:
        """Counts voxels of any shape."""
        low, high = float(hu.min(initial=np.inf)), float(hu.max(initial=-np.inf))
        # Copies take longer than the decompression, and most scans need none.
        finite = hu if math.isfinite(low) and math.isfinite(high) else hu[np.isfinite(hu)]
        measured = finite if low > NEVER_MEASURED_HU else finite[finite > NEVER_MEASURED_HU]
        self._total += hu.size
        self._finite += finite.size
        self._measured += measured.size
        self._below += int(np.count_nonzero(measured < BELOW_WATER_HU))
        self._above += int(np.count_nonzero(measured > _NO_TISSUE_HU))
        self._low = min(self._low, float(finite.min(initial=np.inf)))
        self._high = max(self._high, float(finite.max(initial=-np.inf)))
        self._histogram.add(finite)
        self._lowest_measured = min(self._lowest_measured, float(measured.min(initial=np.inf)))
        if self._whole and self._low >= 0 and self._high <= _LARGEST_LABEL:
            values = np.unique(finite)
            self._whole = bool((values == np.rint(values)).all())
            self._labels.update(values.tolist() if self._whole else ())

    @property
    def labels(self) -> int:
        """The number of different values of a label map, also of an empty one; 0 for a scan."""
        within = self._low >= 0 and self._high <= _LARGEST_LABEL and self._whole
        return len(self._labels) if within and len(self._labels) <= _MOST_LABELS else 0

    def refuse_labels(self, path: Path) -> None:
        """Refuses a label map, whatever the read options.

        Raises:
            LabelMap: with its values.
        """
        if self.labels:
            values = "value" if self.labels == 1 else "values"
            cause = f"is a label map, not a scan: {self.labels} whole {values}"
            remedy = f"Move it away, or name it {_labelled(path)}"
            raise LabelMap(path, f"{cause}, {self._low:g}..{self._high:g}", remedy)

    def warnings(self, path: Path, trust: ReadOptions) -> list[str]:
        """Messages about oddities of the voxels.

        Raises:
            BadInput: if too many are not finite, or if they are not plausible Hounsfield units and
                `trust.hu` is False.
            LabelMap: likewise, if they are labels.
        """
        gaps = self._total - self._finite
        if gaps > _MOST_GAPS * self._total:
            cause = f"holds {gaps / self._total:.1%} voxels that are not finite"
            raise BadInput(path, cause, "Export it again with padding of -1024")
        are = "voxel that is" if gaps == 1 else "voxels that are"
        found = [f"holds {gaps:,} {are} not finite"] if gaps else []
        if self._low == self._high:
            return [*found, f"has the one value {self._low:g} everywhere"]
        other = self._histogram.other_unit()
        # A scan of padding and one other value cannot be judged.
        below = self._below < LEAST_BELOW * self._measured and self._lowest_measured < self._high
        if below or self._above > _MOST_ABOVE * self._total or other:
            cause, remedy = f"values range {self._low:g}..{self._high:g}", "Rescale it to HU"
            if other:
                cause, remedy = f"{cause}, {other[0]}", other[1]
            if not trust.hu:
                self.refuse_labels(path)
                remedy += ", or pass --assume-hu if it is in HU"
                raise BadInput(path, f"is not in Hounsfield units: {cause}", remedy)
            found.append(f"does not look like Hounsfield units: {cause}")
        elif odd := self._histogram.oddity():
            found.append(f"may not be in Hounsfield units: {odd}. Rescale it if it is not")
        return found


def _labelled(path: Path) -> str:
    """The name of a file as a label map: `a.nii.gz` -> `a_label.nii.gz`."""
    stem, dot, ending = path.name.partition(".nii")
    return f"{stem}_label{dot}{ending}"
