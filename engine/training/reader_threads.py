"""Reader threads: read the batches ahead of a training."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

READER = "reader-"  # names of the threads

_LOOK_EVERY_S = 0.25
_END_S = 1.0  # no example takes longer unless its read hangs


class Readers:
    """Daemon threads that read batches.

    The standard library's pool is not used: with it, a process cannot end while a thread hangs in a
    read that a network file system never answers. Processes are not needed: the threads read mapped
    memory, and numpy releases the interpreter's lock while it copies. No single reader can be
    killed for memory. If memory runs out, the whole training ends, and its last checkpoint remains.
    """

    def __init__(self, count: int) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            Thread(target=self._read, name=f"{READER}{i}", daemon=True) for i in range(count)
        ]
        self._ended = Event()
        self.ended = self._ended.is_set
        for thread in self._threads:
            thread.start()

    def submit(self, read: Callable[[int], Any], step: int) -> Future[Any]:
        """Reads the batch of a step as soon as a thread is free."""
        future: Future[Any] = Future()

        def task() -> None:
            try:
                future.set_result(read(step))
            except BaseException as error:  # raised where the batch is used
                future.set_exception(error)

        self._tasks.put(task)
        return future

    def end(self) -> None:
        """Ends the threads after their current read. A thread that hangs is left behind."""
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
    """Whether the result is ready. Waits a quarter of a second for it."""
    return bool(wait([future], _LOOK_EVERY_S).done)
