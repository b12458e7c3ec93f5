"""The archive: named arrays in an untrusted .npz file.

numpy allocates the size that a header declares. Archives are therefore not compressed, so that no
array is larger than its file, and the headers are checked before any array is read.
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
    """Shape and datatype of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def write_arrays(file: BinaryIO, arrays: Arrays) -> str:
    """Writes arrays, and returns the SHA-256 of the bytes handed to write()."""
    hashed = _Hashed(file)
    np.savez(hashed, allow_pickle=False, **arrays)
    return hashed.sha256


def headers(file: BinaryIO) -> dict[str, ArrayHeader]:
    """The headers of the arrays in an archive, by name. No array is read.

    Raises:
        ValueError: if a member is not an array, is compressed, contains objects, or declares
            another size than it has.
        zipfile.BadZipFile: if the file is not an archive.
    """
    found: dict[str, ArrayHeader] = {}
    with zipfile.ZipFile(file) as members:
        for member in members.infolist():
            name = member.filename.removesuffix(_ENDING)
            if name == member.filename or name in found:
                raise ValueError(f"{member.filename} is not an array with a unique name")
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} is compressed")
            with members.open(member) as opened:
                np.lib.format.read_magic(opened)
                shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
                size = opened.tell() + math.prod(shape) * dtype.itemsize
            if dtype.kind not in "fiub" or size != member.file_size:
                raise ValueError(f"{name} does not match its header")
            found[name] = ArrayHeader(shape, dtype)
    return found


def read_arrays(file: BinaryIO) -> Arrays:
    """The arrays of an archive. Check its `headers` first."""
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def difference(found: Mapping[str, ArrayHeader], wanted: Mapping[str, ArrayHeader]) -> str | None:
    """The difference between two sets of headers, with three names at most; None if equal."""
    if names := sorted(set(found) ^ set(wanted)):
        return f"holds other variables than this network: {', '.join(names[:3])}"
    if names := sorted(name for name in wanted if found[name] != wanted[name]):
        return f"holds {', '.join(names[:3])} of another shape"
    return None


class _Hashed(io.RawIOBase):
    """A writer that hashes its bytes. It cannot seek, so written bytes are final."""

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
