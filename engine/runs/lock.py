"""The lock: one process per run folder. The system frees it even if that process is killed."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from engine.errors import Locked
from engine.runs import holder_file
from volumes.storage.atomic import cannot_write

_MOST = 200  # characters that name a holder
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def held(path: Path, warn: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds a lock. The lock file names the holder, for the error of other processes.

    Args:
        path: of the lock file, in the folder to lock.
        warn: called with a message if the file system has no locks. A holder file is then used.

    Raises:
        Locked: if another process holds it, with its number and its machine.
        CannotWrite: if the file cannot be written.
    """
    file = _taken(path)
    if file is None:
        if warn is not None:
            name = holder_file.NAME
            cause = f"its file system has no locks; {name} tells other processes that it is in use"
            warn(f"{path.parent}: {cause}")
        with holder_file.held(path.parent):
            yield
        return
    with file:
        try:
            file.truncate(0)
            file.write(holder_file.this_process())
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
    if os.path.lexists(path) and (file := _taken(path)) is not None:
        file.close()


def _taken(path: Path) -> TextIO | None:
    """The lock file, locked until it is closed or this process ends; None if there are no locks."""
    while True:
        try:
            # Symlinks are refused: their target would be truncated.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = open(os.open(path, flags, 0o666), "r+", errors="replace")  # noqa: SIM115
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            locked = _locked(path, file)
            if _is_still(path, file):
                # Another machine may see the same folder without locks.
                holder_file.refuse_held(path.parent)
                if locked:
                    return file
                if content := file.read(_MOST):  # of a machine whose locks this one does not see
                    holder_file.refuse_holder(path, content)
                file.close()
                return None
        except BaseException:
            file.close()
            raise
        file.close()  # the folder was moved between open and flock: try the new one


def _locked(path: Path, file: TextIO) -> bool:
    """Whether a file is now locked; False if its file system has no locks.

    Raises:
        Locked, CannotWrite: as `held`.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = file.read(_MOST).strip() or "another process"
        remedy = "Wait for it, or choose another --run"
        raise Locked(path.parent, f"is being trained by {holder}", remedy) from error
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise cannot_write(path, error) from error
    return True


def _is_still(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
