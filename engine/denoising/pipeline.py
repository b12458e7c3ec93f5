"""Pipeline: what comes next is prepared, and what came before is finished, beside the work at hand.

Each stage has one thread, which takes its tasks in order. So results do not depend on timing. A
stage holds one result that is waiting, and works at one. On a machine with one processor nothing is
gained by threads: then every task is done where its result is needed.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from engine.runtime import processors

Item = TypeVar("Item")
Result = TypeVar("Result")


class Worker:
    """A thread that does tasks in order.

    An exception of a task is raised where its result is asked for. At the end of the `with` block
    the thread has ended: after its tasks, or at once if the user stops the command.

    Args:
        name: of the thread.

    Attributes:
        beside: whether there is a processor for it.
    """

    def __init__(self, name: str) -> None:
        self.beside = processors() > 1
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def submit(self, task: Callable[[], Result]) -> Future[Result]:
        """The result of a task, which is done as soon as those before it are."""
        future: Future[Result] = Future()

        def done() -> None:
            try:
                future.set_result(task())
            except BaseException as error:  # raised where the result is used
                future.set_exception(error)

        if not self._thread.ident:
            self._thread.start()
        self._tasks.put(done)
        return future

    def _work(self) -> None:
        try:
            while (task := self._tasks.get()) is not None:
                task()
                del task  # and what it holds
        except KeyboardInterrupt:  # of `_end`, between two tasks
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        try:
            self._end(stop=kind is not None and not issubclass(kind, Exception))
        except KeyboardInterrupt:  # Ctrl-C while the last tasks were waited for
            self._end(stop=True)
            raise

    def _end(self, *, stop: bool) -> None:
        """Waits until the thread has ended: after its tasks, or as Ctrl-C ends the main one.

        Then it removes its temporary files.
        """
        if stop:
            while not self._tasks.empty():
                self._tasks.get()
            if self._thread.ident:
                thread = ctypes.c_ulong(self._thread.ident)
                error = ctypes.py_object(KeyboardInterrupt)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, error)
        self._tasks.put(None)
        # Not by `join`: it takes a thread for ended after Ctrl-C in an earlier `join`, and refuses
        # one that Ctrl-C found being started.
        while self._thread in threading.enumerate():
            time.sleep(0.001)


class Ahead(Generic[Item, Result]):
    """A function of items whose order is known: the next result is made while the last is used.

    Args:
        make: the function. It is called with one item at a time.
        items: in the order in which they are expected. Another one is no error, only slower.
        worker: makes the next result.
        fits: whether an item may be begun ahead, because there is memory for it.
    """

    def __init__(
        self, make: Callable[[Item], Result], items: Iterable[Item], worker: Worker,
        fits: Callable[[Item], bool] = lambda _: True,
    ) -> None:  # fmt: skip
        self._make, self._worker, self._fits = make, worker, fits
        self._items = iter(items)
        self._coming = next(self._items, None)
        self._begun: Future[Result] | None = None

    def __call__(self, item: Item) -> Result:
        """The result of an item. The next one is begun."""
        if item != self._coming:
            return self._make(item)
        begun, self._begun = self._begun, None
        self._coming = coming = next(self._items, None)
        try:
            return self._make(item) if begun is None else begun.result()
        finally:
            if coming is not None and self._worker.beside and self._fits(coming):
                self._begun = self._worker.submit(lambda: self._make(coming))


class Behind:
    """Tasks that are done behind the work at hand, in order.

    Args:
        worker: does them.

    Attributes:
        done: how many are done for certain.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker, self.done = worker, 0
        self._last: Future[Any] | None = None

    def put(self, task: Callable[[], Any]) -> int:
        """Begins a task, and waits until the ones before it are done; returns how many are."""
        last = self._last
        self._last = self._worker.submit(task) if self._worker.beside else None
        if last is not None:
            last.result()
            self.done += 1
        if self._last is None:
            task()
            self.done += 1
        return self.done

    def check(self) -> None:
        """Raises the error of the last task, if it has failed by now."""
        if self._last is not None and self._last.done():
            self.wait()

    def wait(self) -> int:
        """Waits until all are done; returns how many there were."""
        last, self._last = self._last, None
        if last is not None:
            last.result()
            self.done += 1
        return self.done
