"""NIfTI files, in and out: scans as they are read, and the writing of what is made of them.

The header of a scan is handed back to the byte.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from volumes.errors import CannotWrite
from volumes.nifti.header import new_head
from volumes.nifti.scan import Scan, Stored, bits, open_scan
from volumes.storage.atomic import whole_file
from volumes.volume import HU, SpacingMm

__all__ = ["Scan", "Stored", "bits", "open_scan", "write_derived", "write_hu", "write_like"]


def write_like(scan: Scan, stored: Stored, path: Path, *, overwrite: bool = False) -> None:
    """Writes stored values behind the header of a scan, byte for byte.

    The file is compressed where its name ends in .gz; the same voxels give the same bytes.

    Raises:
        CannotWrite: where `path` exists, is the scan itself, or the system refuses.
    """
    _refuse_in_place(scan, path)
    _write(path, scan.head, stored, overwrite=overwrite)


def write_derived(
    scan: Scan, hu: npt.NDArray[np.float32], path: Path, *, overwrite: bool = False
) -> None:
    """Writes HU on the grid of a scan: its header with a datatype that holds them unscaled.

    int16 where every value is a whole number that it holds, else float32.

    Args:
        scan: gives header and extensions.
        hu: in the order of the file.
        path: of the output.
        overwrite: whether an existing file is replaced.

    Raises:
        CannotWrite: where `path` exists, is the scan itself, or the system refuses.
    """
    _refuse_in_place(scan, path)
    whole = bool((np.rint(hu) == hu).all() and np.abs(hu).max(initial=0) <= 32767)
    code = "i2" if whole else "f4"
    values = hu.astype(np.dtype(scan.header.order + code))
    _write(path, scan.header.derived(code), values, overwrite=overwrite)


def write_hu(path: Path, hu: HU, spacing_mm: SpacingMm, *, overwrite: bool = False) -> None:
    """Writes int16 HU of (Z, Y, X) as a new scan in KiTS19's own axis order.

    Raises:
        CannotWrite: where `path` exists or the system refuses.
    """
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [*(-step for step in spacing_mm), 1.0]
    _write(path, new_head(hu.shape, affine), hu, overwrite=overwrite)


def _refuse_in_place(scan: Scan, path: Path) -> None:
    if os.path.exists(path) and os.path.exists(scan.path) and os.path.samefile(path, scan.path):
        raise CannotWrite(path, "is the scan itself", "A scan is never replaced: choose another")


def _write(path: Path, head: bytes, stored: Stored, *, overwrite: bool) -> None:
    with whole_file(path, overwrite=overwrite) as file:
        if path.name.lower().endswith(".gz"):
            # No name and no time within: the same voxels are the same file.
            with gzip.GzipFile("", "wb", 1, file, mtime=0) as compressed:
                _write_voxels(compressed, head, stored)
        else:
            _write_voxels(file, head, stored)


def _write_voxels(file: gzip.GzipFile | BinaryIO, head: bytes, stored: Stored) -> None:
    file.write(head)
    # Fortran order is C order of the transpose; the last axis goes out a piece at a time.
    for piece in stored.T:
        file.write(np.ascontiguousarray(piece).tobytes())
