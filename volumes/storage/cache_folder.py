"""The shelf: a folder that keeps what can be made anew, for as long as it can be written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from volumes.errors import CannotWrite


def _to_nobody(_: str) -> None:
    pass


@dataclass(frozen=True)
class Shelf:
    """A folder, and who is told where it fails; any thread may use it.

    Attributes:
        folder: where things are kept.
        tell: is told once that nothing more can be kept, and of everything that was damaged.
    """

    folder: Path
    tell: Callable[[str], None] = field(default=_to_nobody, repr=False, compare=False)
    _closed: threading.Event = field(
        default_factory=threading.Event, init=False, repr=False, compare=False
    )
    _told: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )

    @property
    def closed(self) -> bool:
        """Whether it has failed: what lies there may be read, nothing more is kept."""
        return self._closed.is_set()

    def close(self, refusal: CannotWrite) -> None:
        """Keeps nothing more, because something could not be; the first one is told."""
        self._closed.set()
        if self._told.acquire(blocking=False):  # for good: it is told once
            self.tell(f"{refusal.path}: {refusal.cause}; going on, nothing more is kept there")

    def damaged(self, path: Path) -> None:
        """Tells that something was not as it had been kept, and is made anew."""
        self.tell(f"{path}: is damaged, and made anew")
