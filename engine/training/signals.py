"""Interrupts: a request to stop is granted at the end of the step."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

# `timeout`, systemd and batch systems tell one request twice, or by two signals.
_ONE_REQUEST_S = 1.0

# Sent to a process and to its group at once, as by `timeout -s INT`; no finger is as quick.
_ONE_PRESS_S = 0.1


class Stop:
    """Whether somebody asked this process to stop, and how."""

    def __init__(self) -> None:
        self.asked: str | None = None
        self._since_s = 0.0

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Notes the first request; a second one ends the process at once.

        What is on the disk is whole at any moment, so that this costs no more than the steps since
        the last checkpoint. A second Ctrl-C ends it with 130, another signal with 75.
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
    """Notes TERM, INT, HUP and USR1 while the block runs, instead of dying of them.

    A HUP that was ignored before, as under nohup, stays ignored.
    """
    stop = Stop()
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    heard = [number for number in _SIGNALS if not (nohup and number == signal.SIGHUP)]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
