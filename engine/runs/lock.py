"""The lock: one process per run folder. The system frees it even if that process is killed."""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from engine.errors import Locked
from volumes.storage.atomic import cannot_write


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds a lock. The lock file names the holder, for the error of other processes.

    Args:
        path: of the lock file, in the folder to lock.

    Raises:
        Locked: if another process holds it, with its number and its machine.
        CannotWrite: if the file cannot be written, or its file system has no locks.
    """
    with _taken(path) as file:
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            yield
        finally:
            with suppress(OSError):  # the next holder rewrites the file in any case
                file.truncate(0)


def refuse_held(path: Path) -> None:
    """Refuses a lock that another process holds, before any work is done.

    Raises:
        Locked: if another process holds the lock.
        CannotWrite: as `held`.
    """
    if os.path.lexists(path):
        _taken(path).close()


def _taken(path: Path) -> TextIO:
    """The lock file, locked until it is closed or this process ends."""
    while True:
        try:
            # Symlinks are refused: their target would be truncated.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = open(os.open(path, flags, 0o666), "r+", errors="replace")  # noqa: SIM115
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with file:
                holder = file.read(200).strip() or "another process"
            remedy = "Wait for it, or choose another --run"
            raise Locked(path.parent, f"is being trained by {holder}", remedy) from error
        except OSError as error:
            file.close()
            raise cannot_write(path, error) from error
        if _is_still(path, file):
            return file
        file.close()  # the folder was moved between open and flock: try the new one


def _is_still(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
