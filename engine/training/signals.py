"""Signals: a request to stop ends a training after its step, and other work at once."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from volumes.storage.atomic import remove_temporaries

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

# `timeout`, systemd and batch systems send one request twice, or as two signals.
_ONE_REQUEST_S = 1.0

# `timeout -s INT` signals a process and its group at once. No user presses Ctrl-C this fast.
_ONE_PRESS_S = 0.1


# A call of compiled code, such as a large tile or BM3D, lets no exception through before it ends.
_PATIENCE_S = 1.0


class Stopped(KeyboardInterrupt):
    """A stop was requested where nothing has to be saved. No `except Exception` catches it."""


class Stop:
    """A request to stop this process: whether there is one, and its signal.

    Args:
        exits: whether a second request ends the process. If not, it raises KeyboardInterrupt.
    """

    def __init__(self, *, exits: bool = True) -> None:
        self.asked: str | None = None
        self._exits = exits
        self._since_s = 0.0
        self._at_once = False
        self._caught: list[signal.Signals] = []

    def listen(self, caught: Iterable[signal.Signals] | None = None) -> None:
        """Handles signals of this process, in its main thread; without any, those of before again.

        TensorFlow takes SIGTERM for itself when it connects several processes.
        """
        self._caught = self._caught if caught is None else list(caught)
        for number in self._caught:
            signal.signal(number, self)

    def check(self) -> None:
        """Raises Stopped if a stop was requested."""
        if self.asked:
            raise Stopped(self.asked)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While the block runs, a request raises Stopped wherever the main thread is."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def hold(self) -> None:
        """Ends `at_once`: from here on a request is only recorded, as there is work to save."""
        self._at_once = False
        self.check()

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Records the first request. A second one ends the process at once.

        Files on the disk are complete at any moment, so that only the steps since the last
        checkpoint are lost. A second Ctrl-C exits with 130, another signal with 75.

        Raises:
            Stopped: at the first request, within `at_once`.
            KeyboardInterrupt: at the second one, if it does not end the process.
        """
        now_s = time.monotonic()
        if not self.asked:
            self.asked, self._since_s = signal.Signals(number).name, now_s
            if self._at_once:
                raise Stopped(self.asked)
            return
        pressed = number == signal.SIGINT
        if now_s - self._since_s >= (_ONE_PRESS_S if pressed else _ONE_REQUEST_S):
            if not self._exits:
                raise KeyboardInterrupt
            os._exit(130 if pressed else 75)


@contextmanager
def interruptible(*, exits: bool = True) -> Iterator[Stop]:
    """Records TERM, INT, HUP and USR1 while the block runs. They do not end the process.

    If HUP was ignored before, as under nohup, it stays ignored. Only the main thread receives
    signals: in another one, nothing is recorded.

    Args:
        exits: whether a second request ends the process, as in `Stop`.
    """
    stop = Stop(exits=exits)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    caught = [number for number in _SIGNALS if not (nohup and number == signal.SIGHUP)]
    before = {number: signal.getsignal(number) for number in caught}
    stop.listen(caught)
    woken = signal.set_wakeup_fd(-1)  # `ends_soon` does not end a training within its step
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ends_soon(message: str) -> Iterator[None]:
    """Ends the process soon after Ctrl-C, also if compiled code does not return to Python.

    KeyboardInterrupt is raised as usual. If it has not ended the process within a second, or at a
    second Ctrl-C, temporary files are removed and the process exits with 130.

    Args:
        message: a line on stderr, if the block has not ended by then.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    ended = threading.Event()

    def watch() -> None:
        while (number := os.read(reading, 1)) != bytes([signal.SIGINT]):
            if not number:
                return
        select.select([reading], [], [], _PATIENCE_S)
        if not ended.is_set():
            remove_temporaries()
            os.write(2, f"{message}\n".encode())
        os._exit(130)

    threading.Thread(target=watch, name="Ctrl-C", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        if signal.set_wakeup_fd(before) == writing:
            os.close(writing)  # the thread ends, unless Ctrl-C came: it then ends the process
