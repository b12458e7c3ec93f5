"""The archive: arrays by name in an npz file, of which nothing is believed before it is checked.

numpy allocates what a header claims. Here arrays are stored, never compressed, so that none is
larger than its file; and what an archive is to hold is compared before an array is read.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]

_ENDING = ".npy"


class ArrayHeader(NamedTuple):
    """What an array is before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def write_arrays(file: BinaryIO, arrays: Arrays) -> str:
    """Writes arrays; returns the sha256 of what was meant, whatever the disk makes of it."""
    meant = _Hashed(file)
    np.savez(meant, allow_pickle=False, **arrays)
    return meant.sha256


def headers(file: BinaryIO) -> dict[str, ArrayHeader]:
    """The arrays that an archive holds, by name; none is read.

    Raises:
        ValueError: where a member is no array, is compressed, has objects, or claims another size
            than it has.
        zipfile.BadZipFile: where the file is no archive.
    """
    found: dict[str, ArrayHeader] = {}
    with zipfile.ZipFile(file) as members:
        for member in members.infolist():
            name = member.filename.removesuffix(_ENDING)
            if name == member.filename or name in found:
                raise ValueError(f"{member.filename} is no array of its own name")
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} is compressed")
            with members.open(member) as opened:
                np.lib.format.read_magic(opened)
                shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
                size = opened.tell() + math.prod(shape) * dtype.itemsize
            if dtype.kind not in "fiub" or size != member.file_size:
                raise ValueError(f"{name} is not the array that it claims to be")
            found[name] = ArrayHeader(shape, dtype)
    return found


def read_arrays(file: BinaryIO) -> Arrays:
    """The arrays of an archive whose `headers` have been compared."""
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def difference(found: Mapping[str, ArrayHeader], wanted: Mapping[str, ArrayHeader]) -> str | None:
    """In what an archive is not what is wanted, the first three names told; None where it is."""
    if names := sorted(set(found) ^ set(wanted)):
        return f"holds other variables than this network: {', '.join(names[:3])}"
    if names := sorted(name for name in wanted if found[name] != wanted[name]):
        return f"holds {', '.join(names[:3])} of another shape"
    return None


class _Hashed(io.RawIOBase):
    """Hashes what passes. It cannot seek: what has passed is final."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, block: Any, /) -> int:
        self._digest.update(block)
        self._file.write(block)
        return memoryview(block).nbytes

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()
