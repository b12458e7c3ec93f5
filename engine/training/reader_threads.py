"""Readers: threads that read ahead of a training."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

_LOOK_EVERY_S = 1.0
_END_S = 10.0  # longer than any example takes that is not stuck


class Readers:
    """Threads that read.

    Not the standard library's pool: a process cannot end while one of its threads hangs in a read
    that a network file system never answers. Not processes either: what threads read is memory that
    is mapped, and the interpreter's lock is let go of while numpy copies it. So none can be killed
    alone; where memory ends, the whole training does, and its last checkpoint stands.
    """

    def __init__(self, count: int) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            Thread(target=self._read, name=f"feed-{i}", daemon=True) for i in range(count)
        ]
        self._ended = Event()
        for thread in self._threads:
            thread.start()

    def submit(self, read: Callable[[int], Any], step: int) -> Future[Any]:
        """Has a step's batch read when a thread is free."""
        future: Future[Any] = Future()

        def task() -> None:
            try:
                future.set_result(read(step))
            except BaseException as error:  # it surfaces where the batch is wanted
                future.set_exception(error)

        self._tasks.put(task)
        return future

    def end(self) -> None:
        """Ends the threads once they have read what they are at; one that hangs is left behind."""
        self._ended.set()
        for _ in self._threads:
            self._tasks.put(None)
        until = time.monotonic() + _END_S
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))

    def _read(self) -> None:
        while (task := self._tasks.get()) is not None and not self._ended.is_set():
            task()


def arrived(future: Future[Any]) -> bool:
    """Whether its result is there; waits for it for about a second."""
    return bool(wait([future], _LOOK_EVERY_S).done)
