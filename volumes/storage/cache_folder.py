"""The cache folder: it becomes read-only after the first write error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from volumes.errors import CannotWrite


def _ignore(_: str) -> None:
    pass


@dataclass(frozen=True)
class CacheFolder:
    """A folder of files that can be computed again. It is safe to use from several threads.

    Attributes:
        folder: path of the cache.
        tell: called with a message for the first write error and for each damaged file.

    Example:
        >>> cache = CacheFolder(Path("cache"), tell=print)
        >>> cache.make_read_only(CannotWrite("cache", "the disk is full", "Free some space"))
        cache: the disk is full; the cache is read-only from here on
        >>> cache.read_only
        True
    """

    folder: Path
    tell: Callable[[str], None] = field(default=_ignore, repr=False, compare=False)
    _failed: threading.Event = field(
        default_factory=threading.Event, init=False, repr=False, compare=False
    )
    _reported: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )

    @property
    def read_only(self) -> bool:
        """Whether the cache is read-only, on request or after a write error."""
        return self._failed.is_set()

    def freeze(self) -> None:
        """Makes the cache read-only on request. Nothing is reported."""
        self._failed.set()

    def make_read_only(self, refusal: CannotWrite) -> None:
        """Makes the cache read-only. Only the first error is reported."""
        self._failed.set()
        if self._reported.acquire(blocking=False):  # never released: one report only
            self.tell(f"{refusal.path}: {refusal.cause}; the cache is read-only from here on")

    def report_damaged(self, path: Path) -> None:
        """Reports a damaged file, which will be computed again."""
        self.tell(f"{path}: is damaged; it is computed again")
