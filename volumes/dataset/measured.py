"""Measured voxels: those of a scan, with its padding set to air, and the mask of the padding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from volumes.dataset.recordings import Compared
from volumes.nifti import Scan
from volumes.nifti.scan import Voxels, is_whole
from volumes.padding import AIR_LIKE_HU, NEVER_MEASURED_HU, padding
from volumes.volume import AIR_HU, HU

Mask = npt.NDArray[np.bool_]


class Measured(NamedTuple):
    """What a scan has measured.

    Attributes:
        hu: (Z, Y, X), air in padding.
        padding: (Z, Y, X) mask.
        odd: messages about oddities.
    """

    hu: HU
    padding: Mask
    odd: tuple[str, ...]


def measured(scan: Scan) -> Measured:
    """The voxels of a scan.

    Raises:
        BadInput: if it cannot be read.
        LabelMap: if it holds labels.
    """
    found = _read(scan)
    return _aired(found, found.gaps | padding(found.hu))


def recording(clean: Scan, noisy: Scan) -> Measured:
    """The voxels of a noisy recording.

    A voxel is padding if it is padding in both scans: a clean phantom is a constant like air
    outside the body, where its recording measures noise. Noise alone may look like padding. Where
    the clean scan cannot have been measured, the recording does not count either.

    Args:
        clean: the scan that it is compared with, on the same grid.
        noisy: the recording.

    Raises:
        BadInput: if one cannot be read, or they are not two recordings of one scan.
        LabelMap: if one holds labels.
    """
    reference = _read(clean)
    outside = reference.gaps | padding(reference.hu)
    like_air = (reference.hu > NEVER_MEASURED_HU) & (reference.hu <= AIR_LIKE_HU) & ~reference.gaps
    found = _read(noisy)
    mask = outside & (~like_air | found.gaps | padding(found.hu))
    aired = _aired(found, mask)
    reference.hu[mask] = AIR_HU
    odd = Compared(noisy.path, clean.path.name).oddities(reference.hu, aired.hu)
    return aired._replace(odd=(*aired.odd, *odd))


def _read(scan: Scan) -> Voxels:
    found = scan.read_voxels()
    found.census.refuse_labels(scan.path)
    return found


def _aired(found: Voxels, mask: Mask) -> Measured:
    hu = found.hu
    hu[mask] = AIR_HU
    return Measured(hu.astype(np.int16) if is_whole(hu) else hu, mask, found.odd)
