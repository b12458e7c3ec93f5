"""Atomic files: written completely or not at all, even if the process is killed."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from volumes.errors import CannotWrite, DiskFull

_REMEDIES = {
    errno.ENOSPC: "Free some space, or choose another place",
    errno.EDQUOT: "Free some of your quota, or choose another place",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f), or choose another place",
    errno.EMFILE: "Raise the limit on open files (ulimit -n)",
    errno.EROFS: "Choose a place that is not read-only",
    errno.EACCES: "Choose a place that you may write",
    errno.EPERM: "Choose a place that you may write",
    errno.ENAMETOOLONG: "Choose a shorter name",
}
_SHORT = 40  # characters of a name that a temporary file repeats
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_temporaries: set[Path] = set()
_TEMPORARY = re.compile(r"(?P<start>\..+)\.(?P<process>\d+)-\d+\.tmp")

# Some network file systems cannot sync a folder. A folder may be writable but not readable.
_UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)


def is_full(error: OSError) -> bool:
    """Whether a disk, a quota or the limit on file sizes is exhausted."""
    return error.errno in _FULL


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """The CannotWrite for an operating system's error; DiskFull if no space is left."""
    kind = DiskFull if is_full(error) else CannotWrite
    remedy = _REMEDIES.get(error.errno or 0, "Check the place, or choose another one")
    return kind(path, f"cannot be written: {error.strerror or error}", remedy)


@contextmanager
def whole_file(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """A temporary file in the folder of `path`, synced and renamed to `path` at the end.

    Raises:
        CannotWrite: if `path` exists and must not be replaced, or the system reports an error.
    """
    if not overwrite and os.path.lexists(path):
        raise CannotWrite(path, "exists already", "Remove it, or ask for --overwrite")
    temporary = path.with_name(f"{_start(path)}.{os.getpid()}-{threading.get_ident()}.tmp")
    _temporaries.add(temporary)
    try:
        with synced_file(temporary) as file:
            yield file
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # it must not hide the first error
            temporary.unlink()
        _temporaries.discard(temporary)


def replace_text(path: Path, text: str) -> Path:
    """Writes a text file whole, in UTF-8. An existing file is replaced.

    Returns:
        The path.

    Raises:
        CannotWrite: if it cannot be written.
    """
    with whole_file(path, overwrite=True) as file:
        # UTF-8 also where a name is not: its other bytes are written as escapes.
        file.write(text.encode(errors="backslashreplace"))
    return path


def _start(path: Path) -> str:
    """The start of the names of its temporary files, which tells two long names apart."""
    name = path.name
    told = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}" if len(name) > _SHORT else ""
    return f".{name[:_SHORT]}{told}"


def remove_orphans(paths: Iterable[Path]) -> None:
    """Removes temporary files of these paths that killed processes left.

    Those of a process that runs on this machine stay.
    """
    starts = {(path.parent, _start(path)) for path in paths}
    for folder in {folder for folder, _ in starts}:
        with suppress(OSError):
            for name in os.listdir(folder):
                found = _TEMPORARY.fullmatch(name)
                if found and (folder, found["start"]) in starts and not _runs(found["process"]):
                    with suppress(OSError):
                        (folder / name).unlink()


def _runs(process: str) -> bool:
    """Whether another process of this number runs on this machine."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return int(process) != os.getpid()


def remove_temporaries() -> None:
    """Removes the temporary files of this process, which is about to exit."""
    for path in list(_temporaries):
        with suppress(OSError):
            path.unlink()


@contextmanager
def synced_file(path: Path) -> Iterator[BinaryIO]:
    """A file for writing. Its bytes are synced at the end; its name is not."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Makes a folder and its parents, and syncs them so that they survive a power cut.

    Raises:
        CannotWrite: if the system reports an error.
    """
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
        if missing:
            path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def refuse_unwritable(path: Path) -> None:
    """Refuses a folder that `make_folder` could not make, or that could not be written.

    Nothing is written.

    Raises:
        CannotWrite: as `make_folder`, as far as rights and the kinds of files can tell.
    """
    place = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if not place.is_dir():
        code = errno.EEXIST if place == path else errno.ENOTDIR
    elif not os.access(place, os.W_OK | os.X_OK):
        read_only = os.statvfs(place).f_flag & os.ST_RDONLY
        code = errno.EROFS if read_only else errno.EACCES
    else:
        return
    raise cannot_write(path, OSError(code, os.strerror(code)))


def sync_folder(path: Path) -> None:
    """Syncs the names in a folder so that they survive a power cut, if the file system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise
