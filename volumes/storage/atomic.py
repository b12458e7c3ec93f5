"""Atomic files: they appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from volumes.errors import CannotWrite, DiskFull

_REMEDIES = {
    errno.ENOSPC: "Free some space, or choose another place",
    errno.EDQUOT: "Free some of your quota, or choose another place",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f), or choose another place",
    errno.EMFILE: "Raise the limit on open files (ulimit -n)",
    errno.EROFS: "Choose a place that can be written",
    errno.EACCES: "Choose a place that you may write",
    errno.EPERM: "Choose a place that you may write",
    errno.ENAMETOOLONG: "Choose a shorter name",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Some network file systems cannot sync a folder, and one may be writable without being readable.
_UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)


def is_full(error: OSError) -> bool:
    """Whether it says that a disk, a quota or a file has no room left."""
    return error.errno in _FULL


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """The refusal that an operating system's error on writing becomes; DiskFull of a full disk."""
    kind = DiskFull if is_full(error) else CannotWrite
    remedy = _REMEDIES.get(error.errno or 0, "Check the place, or choose another one")
    return kind(path, f"cannot be written: {error.strerror or error}", remedy)


@contextmanager
def whole_file(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Opens a file beside `path` for writing, synced and renamed to `path` at the end.

    Raises:
        CannotWrite: where `path` exists and may not be replaced, or the system refuses.
    """
    if not overwrite and os.path.lexists(path):
        raise CannotWrite(path, "exists already", "Remove it, or ask for --overwrite")
    aside = path.with_name(f".{path.name[:40]}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with synced_file(aside) as file:
            yield file
        os.replace(aside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # it must not hide why the file could not be written
            aside.unlink()


@contextmanager
def synced_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing whose bytes are on the disk at the end; its name is not synced."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Makes a folder and its parents, which then survive a power cut, or refuses.

    Raises:
        CannotWrite: where the system refuses.
    """
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
        if missing:
            path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive a power cut, where its file system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise
