"""Interrupts: a request to stop is granted at the end of the step."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Stop:
    """Whether somebody asked this process to stop, and how."""

    def __init__(self) -> None:
        self.asked: str | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Notes the first request; a second Ctrl-C ends the process at once."""
        if self.asked and number == signal.SIGINT:
            os._exit(130)
        self.asked = signal.Signals(number).name


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Notes TERM, INT, HUP and USR1 while the block runs, instead of dying of them."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
