"""Mapped arrays: .npy files in memory, which need no open file while they are used.

The maps of Python before 3.13 keep a file open each, so that a data set of more cases than
`ulimit -n` could not be mapped.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import weakref
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_LIBC.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t
_FAILED = ctypes.c_void_p(-1).value


def mapped_array(path: Path) -> npt.NDArray[Any]:
    """The array of a .npy file, read-only and memory-mapped.

    Raises:
        OSError: if the file cannot be opened or mapped.
        ValueError: if it is not the file of an array, holds objects, or has another size.
    """
    with open(path, "rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{path} has another version of the format")
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
        start, count = file.tell(), math.prod(shape)
        if dtype.hasobject or by_column:
            raise ValueError(f"{path} holds no plain array")
        if os.fstat(file.fileno()).st_size != start + count * dtype.itemsize or not count:
            raise ValueError(f"{path} has another size than its header says")
        content = _map(file)
    array = np.frombuffer(content, dtype, count, start).reshape(shape).view(np.memmap)
    vars(array)["_mmap"] = content  # so that numpy takes its slices for maps, too
    return array


def _map(file: BinaryIO) -> Any:
    """The bytes of a file. They are unmapped when nothing uses them any more."""
    size = os.fstat(file.fileno()).st_size
    place = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if place == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), file.name)
    content = (ctypes.c_char * size).from_address(place)
    # Not at exit: threads may still read then, and the system unmaps everything.
    weakref.finalize(content, _LIBC.munmap, place, size).atexit = False
    return memoryview(content).toreadonly()
