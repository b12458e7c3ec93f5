"""Arrays on a shelf: each made once, checked whenever it is opened, mapped into memory.

An array is complete once its description lies beside it; whatever is found incomplete or damaged
is made anew. Where nothing can be written it is held in memory.
"""

from __future__ import annotations

import fcntl
import math
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.errors import CannotWrite
from volumes.storage import json_files, memory
from volumes.storage.atomic import cannot_write, make_folder, whole_file
from volumes.storage.cache_folder import Shelf

Words = tuple[str, ...]

_MEMORY_SHARE = 0.5
_ELSEWHERE = "Free some space, or name another place by ENGINE_CACHE"
_ORPHAN_S = 3600.0  # whoever still writes has touched his file since


@dataclass(frozen=True)
class Content:
    """An array to write, in pieces along its first axis, so that it need not fit into memory."""

    shape: tuple[int, ...]
    pieces: Iterable[npt.NDArray[Any]]
    odd: Words = ()


@dataclass(frozen=True)
class Arrays:
    """Arrays by name, and with each what was odd when it was made, in words.

    Attributes:
        shelf: whose folder they lie in.
    """

    shelf: Shelf

    def array(
        self, name: str, make: Callable[[], Content], dtype: type[np.generic] = np.int16
    ) -> tuple[Any, Words]:
        """The array of a name, read-only, and what was odd; made first where need be.

        Of several processes and threads that want the same one, one makes it and the others wait.

        Raises:
            CannotWrite: where it cannot be kept, and memory does not hold it.
        """
        found = self._found(name, dtype)
        refused: CannotWrite | None = None
        if found is None and not self.shelf.closed:
            try:
                with self._locked(name):
                    # Somebody else may have made it meanwhile.
                    found = self._found(name, dtype) or self._made(name, make, dtype)
            except CannotWrite as refusal:
                self.shelf.close(refusal)
                refused = refusal
        return found or _held(make(), dtype, refused or _closed(self.shelf))

    def _found(self, name: str, dtype: type[np.generic]) -> tuple[Any, Words] | None:
        """No lock is needed: files appear whole, and are never changed."""
        description = json_files.read_sealed(self.shelf.folder / f"{name}.json")
        if description is None:
            return None
        try:
            array = self._mapped(name)
            # A flipped bit in the array's own header changes the datatype, not the bytes.
            found = [array.dtype.str, list(array.shape), _crc32(array)]
        except Exception:  # numpy raises many kinds here; each means that the array is damaged
            return None
        wanted = [np.dtype(dtype).str, description["shape"], description["array_crc32"]]
        return (array, tuple(description["odd"])) if found == wanted else None

    def _made(
        self, name: str, make: Callable[[], Content], dtype: type[np.generic]
    ) -> tuple[Any, Words]:
        path, description = (self.shelf.folder / f"{name}{end}" for end in (".npy", ".json"))
        if description.exists():
            self.shelf.damaged(path)
        self._sweep(path)
        content, crc = make(), 0
        with whole_file(path, overwrite=True) as file:
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": content.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in content.pieces:
                values = np.ascontiguousarray(piece).data
                crc = zlib.crc32(values, crc)
                file.write(values)
        # The description comes last: its presence is what makes the array valid.
        told = {"shape": content.shape, "array_crc32": crc, "odd": content.odd}
        json_files.write_sealed(description, told)
        return self._mapped(name), content.odd

    def _mapped(self, name: str) -> Any:
        return np.load(self.shelf.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    def _sweep(self, path: Path) -> None:
        """Removes what killed processes left of it half-written."""
        for orphan in path.parent.glob(f".{path.name[:40]}*.tmp"):
            with suppress(OSError):
                if time.time() - orphan.stat().st_mtime > _ORPHAN_S:
                    orphan.unlink()

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        make_folder(self.shelf.folder)
        path = self.shelf.folder / f"{name}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            # Some network file systems lock nothing: then two may make the same array.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _closed(shelf: Shelf) -> CannotWrite:
    return CannotWrite(shelf.folder, "cannot be written", _ELSEWHERE)


def _held(
    content: Content, dtype: type[np.generic], refused: CannotWrite
) -> tuple[npt.NDArray[Any], Words]:
    """An array in memory, where it fits there."""
    needed = math.prod(content.shape) * np.dtype(dtype).itemsize
    if needed > _MEMORY_SHARE * memory.free_bytes():
        cause = f"{refused.cause}, and memory does not hold the {needed:,} bytes of a scan"
        raise CannotWrite(refused.path, cause, _ELSEWHERE)
    array, filled = np.empty(math.prod(content.shape), dtype), 0
    for piece in content.pieces:
        array[filled : filled + piece.size] = np.ravel(piece)
        filled += piece.size
    array.setflags(write=False)
    return array.reshape(content.shape), content.odd


def _crc32(array: npt.NDArray[Any]) -> int:
    crc = 0
    for slice_ in array:
        crc = zlib.crc32(np.ascontiguousarray(slice_).data, crc)
    return crc
