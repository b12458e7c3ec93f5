"""A disk that can be watched and made to fail: every change below a folder is an operation.

Python's own calls are wrapped, so that what is watched is what the program does, in its order. An
operation that is struck while it writes has written half.
"""

from __future__ import annotations

import builtins
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

Blow = Callable[[], None]


@dataclass(frozen=True)
class Operation:
    """One change: made, opened, written, truncated, synced, renamed or removed.

    Attributes:
        kind: the call: mkdir, open, write, truncate, fsync, rename, unlink, rmdir.
        path: of what changes.
        to: where it is renamed to.
        block: what is written, or how long the file becomes.
    """

    kind: str
    path: Path
    to: Path | None = None
    block: Any = None


@dataclass
class Disk:
    """Watches a folder.

    Attributes:
        under: the folder.
        strike: says for the number of an operation and the operation what befalls it, if anything.
        done: operations so far, those that failed left out.
        struck: those that something befell.
    """

    under: Path
    strike: Callable[[int, Operation], Blow | None] = lambda number, operation: None
    done: list[Operation] = field(default_factory=list)
    struck: list[Operation] = field(default_factory=list)
    tried: int = 0

    def __post_init__(self) -> None:
        self.under = Path(os.path.realpath(self.under))

    def watches(self, path: Path) -> bool:
        return path == self.under or self.under in path.parents

    def does(
        self, operation: Operation, call: Callable[[], Any], half: Callable[[], Any] | None = None
    ) -> Any:
        """Does an operation, or strikes it."""
        blow = self.strike(self.tried, operation)
        self.tried += 1
        if blow is not None:
            self.struck.append(operation)
            if half is not None:
                half()
            blow()
        result = call()
        self.done.append(operation)
        return result

    @contextmanager
    def watched(self) -> Iterator[Disk]:
        """Wraps the calls while the block runs."""
        with (
            mock.patch.object(builtins, "open", self._opening(builtins.open)),
            mock.patch.object(os, "mkdir", self._on_path("mkdir", os.mkdir)),
            mock.patch.object(os, "unlink", self._on_path("unlink", os.unlink)),
            mock.patch.object(os, "rmdir", self._on_path("rmdir", os.rmdir)),
            mock.patch.object(os, "rename", self._renaming(os.rename)),
            mock.patch.object(os, "replace", self._renaming(os.replace)),
            mock.patch.object(os, "fsync", self._syncing(os.fsync)),
        ):
            yield self

    def _on_path(self, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: Any, *args: Any, dir_fd: int | None = None, **kwargs: Any) -> Any:
            whole = _whole(path, dir_fd)
            if dir_fd is not None:
                kwargs["dir_fd"] = dir_fd
            if not self.watches(whole):
                return call(path, *args, **kwargs)
            return self.does(Operation(kind, whole), lambda: call(path, *args, **kwargs))

        return wrapped

    def _renaming(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(source: Any, target: Any, **kwargs: Any) -> Any:
            if not self.watches(_whole(source)):
                return call(source, target, **kwargs)
            renamed = Operation("rename", _whole(source), _whole(target))
            return self.does(renamed, lambda: call(source, target, **kwargs))

        return wrapped

    def _syncing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(descriptor: Any) -> Any:
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            path = Path(os.readlink(f"/proc/self/fd/{number}"))
            if not self.watches(path):
                return call(descriptor)
            return self.does(Operation("fsync", path), lambda: call(descriptor))

        return wrapped

    def _opening(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            writes = set(mode) & set("wax+")
            if not writes or isinstance(path, int) or not self.watches(_whole(path)):
                return call(path, mode, *args, **kwargs)
            opened = Operation("open", _whole(path))
            file = self.does(opened, lambda: call(path, mode, *args, **kwargs))
            return _File(self, _whole(path), file)

        return wrapped


class _File:
    """A file whose writes are operations."""

    def __init__(self, disk: Disk, path: Path, file: Any) -> None:
        self._disk, self._path, self._file = disk, path, file

    def write(self, block: Any) -> int:
        whole = bytes(memoryview(block).cast("B")) if not isinstance(block, str) else block

        def half() -> None:
            self._file.write(whole[: len(whole) // 2])
            self._file.flush()

        written = Operation("write", self._path, block=whole)
        return self._disk.does(written, lambda: self._file.write(block), half)

    def truncate(self, size: int) -> int:
        cut = Operation("truncate", self._path, block=size)
        return self._disk.does(cut, lambda: self._file.truncate(size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        self._file.__enter__()
        return self

    def __exit__(self, *args: Any) -> Any:
        return self._file.__exit__(*args)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)


def _whole(path: Any, dir_fd: int | None = None) -> Path:
    text = os.fsdecode(path)
    if dir_fd is not None:
        text = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), text)
    folder, name = os.path.split(os.path.abspath(text))
    return Path(os.path.realpath(folder), name)


# -- Blows -----------------------------------------------------------------------------------------


def refusing(code: int) -> Blow:
    """The system refuses."""

    def blow() -> None:
        raise OSError(code, os.strerror(code))

    return blow


def sending(number: signal.Signals) -> Blow:
    """The process gets a signal; of KILL it dies here."""
    return lambda: os.kill(os.getpid(), number)


def at(number: int, blow: Blow) -> Callable[[int, Operation], Blow | None]:
    """Strikes one operation."""
    return lambda count, _: blow if count == number else None


def onwards(number: int, blow: Blow) -> Callable[[int, Operation], Blow | None]:
    """Strikes an operation and all that add to the disk after it: what is full stays full."""
    adds = ("mkdir", "open", "write", "fsync", "rename")
    return lambda count, now: blow if count >= number and now.kind in adds else None
