"""Signals: a request to stop takes effect at the end of the step."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

# `timeout`, systemd and batch systems send one request twice, or as two signals.
_ONE_REQUEST_S = 1.0

# `timeout -s INT` signals a process and its group at once. No user presses Ctrl-C this fast.
_ONE_PRESS_S = 0.1


class Stop:
    """A request to stop this process: whether there is one, and its signal."""

    def __init__(self) -> None:
        self.asked: str | None = None
        self._since_s = 0.0

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Records the first request. A second one ends the process at once.

        Files on the disk are complete at any moment, so that only the steps since the last
        checkpoint are lost. A second Ctrl-C exits with 130, another signal with 75.
        """
        now_s = time.monotonic()
        if not self.asked:
            self.asked, self._since_s = signal.Signals(number).name, now_s
            return
        pressed = number == signal.SIGINT
        if now_s - self._since_s >= (_ONE_PRESS_S if pressed else _ONE_REQUEST_S):
            os._exit(130 if pressed else 75)


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Records TERM, INT, HUP and USR1 while the block runs. They do not end the process.

    If HUP was ignored before, as under nohup, it stays ignored.
    """
    stop = Stop()
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    caught = [number for number in _SIGNALS if not (nohup and number == signal.SIGHUP)]
    before = {number: signal.signal(number, stop) for number in caught}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
