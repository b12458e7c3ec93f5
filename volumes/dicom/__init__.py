"""DICOM: a series of CT slices as a scan. What is written from it is NIfTI."""

from __future__ import annotations

from pathlib import Path

from volumes.dicom.folder import holds_slices, is_slice
from volumes.dicom.series import Series, open_series
from volumes.nifti import Scan, open_scan
from volumes.nifti.read_options import STRICT, ReadOptions

__all__ = ["Series", "holds_slices", "is_slice", "open_ct", "open_series"]


def open_ct(path: Path, trust: ReadOptions = STRICT) -> Scan:
    """Opens a NIfTI file, or a DICOM series by its folder or by one of its slices.

    Args:
        path: of the file or the folder.
        trust: options for reading it.

    Raises:
        BadInput: if it is not a CT scan of one volume.
    """
    if holds_slices(path) or is_slice(path):
        return open_series(path, trust)
    return open_scan(path, trust)
