"""Writer: NIfTI files with the header of an existing scan, or with a new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from volumes.errors import CannotWrite
from volumes.nifti.gzip_codec import write_gzip
from volumes.nifti.header import new_head
from volumes.nifti.scan import Scan, Stored, is_whole
from volumes.storage.atomic import whole_file
from volumes.volume import HU, SpacingMm


def write_like(scan: Scan, stored: Stored, path: Path, *, overwrite: bool = False) -> None:
    """Writes stored values with the header of a scan, unchanged to the byte.

    The file is compressed if its name ends in .gz. Equal voxels give equal bytes.

    Raises:
        CannotWrite: if `path` exists or is the scan itself, or the system reports an error.
    """
    with writing_like(scan, stored, path, overwrite=overwrite):
        pass


def writing_like(
    scan: Scan, stored: Stored, path: Path, *, overwrite: bool = False
) -> AbstractContextManager[BinaryIO]:
    """As `write_like`. The file is complete within the block, and has its name after it."""
    return _writing(scan, path, scan.head, stored, overwrite=overwrite)


def write_derived(
    scan: Scan, hu: npt.NDArray[np.float32], path: Path, *, overwrite: bool = False
) -> None:
    """Writes unscaled HU with the header of a scan, as int16 or float32.

    int16 is used if every value is a whole number in its range.

    Args:
        scan: source of header and extensions.
        hu: in the order of the file.
        path: of the output.
        overwrite: whether an existing file is replaced.

    Raises:
        CannotWrite: if `path` exists or is the scan itself, or the system reports an error.
    """
    with writing_derived(scan, hu, path, overwrite=overwrite):
        pass


def writing_derived(
    scan: Scan, hu: npt.NDArray[np.float32], path: Path, *, overwrite: bool = False
) -> AbstractContextManager[BinaryIO]:
    """As `write_derived`. The file is complete within the block, and has its name after it."""
    code = "i2" if is_whole(hu) else "f4"
    values = hu.astype(np.dtype(scan.header.order + code))
    return _writing(scan, path, scan.header.derived(code), values, overwrite=overwrite)


@contextmanager
def _writing(
    scan: Scan, path: Path, head: bytes, stored: Stored, *, overwrite: bool
) -> Iterator[BinaryIO]:
    _refuse_in_place(scan, path)
    with whole_file(path, overwrite=overwrite) as file:
        _write(file, path, head, stored)
        file.flush()
        os.fsync(file.fileno())  # a full disk is noticed before any file has its name
        yield file


def write_hu(path: Path, hu: HU, spacing_mm: SpacingMm, *, overwrite: bool = False) -> None:
    """Writes (Z, Y, X) int16 HU as a new scan in the axis order of KiTS19.

    Raises:
        CannotWrite: if `path` exists or the system reports an error.
    """
    with whole_file(path, overwrite=overwrite) as file:
        _write(file, path, new_head(hu.shape, spacing_mm), hu)


def _refuse_in_place(scan: Scan, path: Path) -> None:
    if os.path.exists(path) and os.path.exists(scan.path) and os.path.samefile(path, scan.path):
        raise CannotWrite(path, "is the scan itself", "A scan is never replaced: choose another")


def _write(file: BinaryIO, path: Path, head: bytes, stored: Stored) -> None:
    if path.name.lower().endswith(".gz"):
        write_gzip(file, _pieces(head, stored))
    else:
        file.writelines(_pieces(head, stored))


def _pieces(head: bytes, stored: Stored) -> Iterator[bytes]:
    yield head
    # Fortran order is the C order of the transpose; it is written piece by piece.
    for piece in stored.T:
        yield np.ascontiguousarray(piece).tobytes()
