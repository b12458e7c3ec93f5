"""The array cache: arrays in a folder, computed once, memory-mapped, checked whenever opened.

An array is complete when its description (a JSON file) exists. Incomplete and damaged arrays are
computed again. If the folder cannot be written, arrays are held in memory.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from volumes.errors import CannotWrite
from volumes.storage import json_files, memory
from volumes.storage.atomic import cannot_write, make_folder, whole_file
from volumes.storage.cache_folder import CacheFolder
from volumes.storage.mapped_array import mapped_array

Words = tuple[str, ...]

_MEMORY_SHARE = 0.5
_ELSEWHERE = "Free some space, or set ENGINE_CACHE to another folder"
_OPEN = "Raise the limit on open files (ulimit -n)"
_LIMITS = {
    errno.EMFILE: _OPEN,
    errno.ENFILE: _OPEN,
    errno.ENOMEM: "Raise the limits on memory maps (ulimit -v, sysctl vm.max_map_count)",
}
_ORPHAN_S = 3600.0  # a temporary file that is older belongs to no running process


@dataclass(frozen=True)
class Content:
    """An array to write, in pieces along its first axis so that it need not fit into memory.

    Attributes:
        shape: of the whole array.
        pieces: in order, each of the datatype.
        odd: messages about oddities of its source.
        dtype: of the array.
        identity: a hash that its maker wants to find again beside the array; may be empty.
    """

    shape: tuple[int, ...]
    pieces: Iterable[npt.NDArray[Any]]
    odd: Words = ()
    dtype: type[np.generic] = np.int16
    identity: str = ""


class Kept(NamedTuple):
    """An array of the cache: read-only, with the words and the identity of its content."""

    array: Any
    odd: Words
    identity: str


@dataclass(frozen=True)
class ArrayCache:
    """Named arrays in a cache folder, each with messages about oddities of its source.

    Attributes:
        cache: the folder.
    """

    cache: CacheFolder

    def array(self, name: str, make: Callable[[], Content]) -> Kept:
        """The array of a name; `make` computes what is missing.

        If several processes or threads request the same array, one makes it and the others wait.

        Raises:
            CannotWrite: if it cannot be stored and does not fit into memory.
        """
        found: Kept | None = None
        refused: CannotWrite | None = None
        try:
            found = self._found(name)
            if found is None and not self.cache.read_only:
                with self._locked(name):
                    # Another process may have made it before this one got the lock.
                    found = self._found(name) or self._made(name, make)
        except CannotWrite as refusal:
            self.cache.make_read_only(refusal)
            refused = refusal
        return found or _in_memory(make(), refused or _read_only(self.cache))

    def _found(self, name: str) -> Kept | None:
        """The array if it is complete and intact. No lock: files are atomic and never change.

        Raises:
            CannotWrite: if the system opens or maps no further file: the array is not damaged.
        """
        description = json_files.read_sealed(self.cache.folder / f"{name}.json")
        if description is None:
            return None
        try:
            array = self._mapped(name)
            # A flipped bit in the header of the .npy file changes the datatype but not the bytes.
            found = [array.dtype.str, list(array.shape), _crc32(array)]
        except OSError as error:
            if error.errno in _LIMITS:
                raise _no_more(self.cache.folder / f"{name}.npy", error) from error
            return None
        except Exception:  # numpy raises many kinds of errors; each means damage
            return None
        if found != [description[name] for name in ("dtype", "shape", "array_crc32")]:
            return None
        return Kept(array, tuple(description["odd"]), description["identity"])

    def _made(self, name: str, make: Callable[[], Content]) -> Kept:
        path, description = (self.cache.folder / f"{name}{end}" for end in (".npy", ".json"))
        if description.exists():
            self.cache.report_damaged(path)
        self._sweep(path)
        content, crc = make(), 0
        with whole_file(path, overwrite=True) as file:
            dtype = np.dtype(content.dtype).str
            header = {"descr": dtype, "fortran_order": False, "shape": content.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in content.pieces:
                values = np.ascontiguousarray(piece).data
                crc = zlib.crc32(values, crc)
                file.write(values)
        # The description comes last: its presence is what makes the array valid.
        about = {"odd": content.odd, "identity": content.identity}
        json_files.write_sealed(
            description, {"dtype": dtype, "shape": content.shape, "array_crc32": crc, **about}
        )
        try:
            return Kept(self._mapped(name), content.odd, content.identity)
        except OSError as error:
            raise _no_more(path, error) from error

    def _mapped(self, name: str) -> Any:
        return mapped_array(self.cache.folder / f"{name}.npy")

    def _sweep(self, path: Path) -> None:
        """Removes temporary files of the array that killed processes left."""
        for orphan in path.parent.glob(f".{path.name[:40]}*.tmp"):
            with suppress(OSError):
                if time.time() - orphan.stat().st_mtime > _ORPHAN_S:
                    orphan.unlink()

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        make_folder(self.cache.folder)
        path = self.cache.folder / f"{name}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            # Some network file systems have no locks: two processes may then make the same array.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _read_only(cache: CacheFolder) -> CannotWrite:
    return CannotWrite(cache.folder, "cannot be written", _ELSEWHERE)


def _no_more(path: Path, error: OSError) -> CannotWrite:
    cause = f"cannot be mapped: {error.strerror or error}"
    return CannotWrite(path, cause, _LIMITS.get(error.errno or 0, _ELSEWHERE))


def _in_memory(content: Content, refused: CannotWrite) -> Kept:
    """The array in memory.

    Raises:
        CannotWrite: if it does not fit.
    """
    needed = math.prod(content.shape) * np.dtype(content.dtype).itemsize
    if needed > _MEMORY_SHARE * memory.free_bytes():
        cause = f"{refused.cause}, and its {needed:,} bytes do not fit into memory"
        remedy = refused.remedy if refused.remedy in _LIMITS.values() else _ELSEWHERE
        raise CannotWrite(refused.path, cause, remedy)
    array, filled = np.empty(math.prod(content.shape), content.dtype), 0
    for piece in content.pieces:
        array[filled : filled + piece.size] = np.ravel(piece)
        filled += piece.size
    array.setflags(write=False)
    return Kept(array.reshape(content.shape), content.odd, content.identity)


def _crc32(array: npt.NDArray[Any]) -> int:
    crc = 0
    for slice_ in array:
        crc = zlib.crc32(np.ascontiguousarray(slice_).data, crc)
    return crc
