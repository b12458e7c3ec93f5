"""Atomic files: they appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from volumes.refusals import CannotWrite

_REMEDIES = {
    errno.ENOSPC: "Free some space, or choose another place",
    errno.EDQUOT: "Free some of your quota, or choose another place",
    errno.EROFS: "Choose a place that can be written",
    errno.EACCES: "Choose a place that you may write",
    errno.EPERM: "Choose a place that you may write",
    errno.ENAMETOOLONG: "Choose a shorter name",
}


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """The refusal that an operating system's error on writing becomes."""
    remedy = _REMEDIES.get(error.errno or 0, "Check the place, or choose another one")
    return CannotWrite(path, f"cannot be written: {error.strerror or error}", remedy)


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
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # it must not hide why the file could not be written
            aside.unlink()


def make_folder(path: Path) -> None:
    """Makes a folder and its parents, or refuses.

    Raises:
        CannotWrite: where the system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def sync_folder(path: Path) -> None:
    """Makes renames within a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
