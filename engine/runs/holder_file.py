"""The holder file: the lock of a run on a file system without flock, as some Lustre and NFS.

It exists while the run is held. The system does not remove that of a killed process. It counts as
stale if the process that it names has ended on this machine. What another machine holds is never
taken, because nothing tells whether it still runs.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import Locked
from volumes.storage.atomic import cannot_write

NAME = ".lock.held"
_TAKING = ".lock.taken"  # exists while a stale file is removed, so that one process alone does it
_HOLDER = re.compile(r"process (?P<number>\d+) on (?P<machine>.*)(\n\d+ (?P<process>.*)\n)?")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_BYTES = 1000
_TRIES = 5


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a folder by its holder file. The folder may be renamed while it is held.

    Raises:
        Locked: if another process holds it or may hold it; the remedy names the file to remove.
        CannotWrite: if the file cannot be written.
    """
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        mine = f"{this_process()}\n{time.time_ns()} {_process(os.getpid())}\n"
        _take(folder, place, mine)
        try:
            yield
        finally:
            if _content(NAME, place) == mine:
                with suppress(OSError):
                    os.unlink(NAME, dir_fd=place)
    finally:
        os.close(place)


def this_process() -> str:
    """This process and its machine, for the errors of others."""
    return f"process {os.getpid()} on {platform.node()}"


def refuse_held(folder: Path) -> None:
    """Refuses a folder that another process holds by its holder file.

    Raises:
        Locked: as `held`.
    """
    content = _content(folder / NAME)
    if content is not None:
        refuse_holder(folder / NAME, content)


def refuse_holder(path: Path, content: str) -> None:
    """Refuses the folder of a lock whose holder has not ended for certain.

    Args:
        path: of the lock.
        content: of it.

    Raises:
        Locked: as `held`.
    """
    if not _has_ended(content):
        holder = content.partition("\n")[0] or "another process"
        remedy = f"Wait for it, or remove {path} if that process has ended"
        raise Locked(path.parent, f"is being trained by {holder}", remedy)


def _take(folder: Path, place: int, mine: str) -> None:
    for _ in range(_TRIES):
        try:
            descriptor = os.open(NAME, _NEW, 0o666, dir_fd=place)
        except FileExistsError:
            _remove_stale(folder, place)
            continue
        except OSError as error:
            raise cannot_write(folder / NAME, error) from error
        try:
            with open(descriptor, "w") as file:
                file.write(mine)
        except OSError as error:
            os.unlink(NAME, dir_fd=place)
            raise cannot_write(folder / NAME, error) from error
        return
    refuse_holder(folder / NAME, "")


def _remove_stale(folder: Path, place: int) -> None:
    """Removes the file of a process that has ended.

    Raises:
        Locked: if it has not, or another process is removing the file.
    """
    found = _content(NAME, place)
    if found is None:  # released just now
        return
    refuse_holder(folder / NAME, found)
    try:
        os.close(os.open(_TAKING, _NEW, 0o666, dir_fd=place))
    except FileExistsError:
        refuse_holder(folder / _TAKING, "")
    except OSError as error:
        raise cannot_write(folder / _TAKING, error) from error
    try:
        if _content(NAME, place) == found:  # else another process has taken it in the meantime
            os.unlink(NAME, dir_fd=place)
    finally:
        os.unlink(_TAKING, dir_fd=place)


def _content(path: Path | str, place: int | None = None) -> str | None:
    """What a lock says; None if it does not exist, and nothing if it cannot be read."""
    try:
        descriptor = os.open(path, _READ, dir_fd=place)
    except FileNotFoundError:
        return None
    except OSError:
        return ""
    try:
        return os.read(descriptor, _MOST_BYTES).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _has_ended(content: str) -> bool:
    """Whether the holder that a file names has ended, on this machine."""
    found = _HOLDER.fullmatch(content)
    if found is None or found["machine"] != platform.node():
        return False
    number = int(found["number"])
    ended = False
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        ended = True
    except PermissionError:  # it is another user's
        pass
    if found["process"] is None:
        return ended
    space, _, begun = found["process"].partition(" ")
    mine, _, now = _process(number).partition(" ")
    # Another container may have the same name, and other processes of the same numbers.
    return space == mine and (ended or begun != now)


def _process(number: int) -> str:
    """The space of process numbers and the beginning of a process; empty where unknown."""
    space = begun = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
        stat = Path(f"/proc/{number}/stat").read_text(errors="replace")
        begun = stat.rpartition(")")[2].split()[19]
    return f"{space} {begun}"
