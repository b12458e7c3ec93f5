"""Batches: global batches of tensors, read ahead of the training step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from engine import runtime
from engine.errors import BadInput, Refusal
from engine.training.reader_threads import Readers, arrived
from engine.training.step import Batch
from volumes.sampling.examples import Example, Examples

_AHEAD = 3


class ReadingError(Exception):
    """A bug that occurred while an example was read. The message names the case."""


class Feed:
    """The global batches of a training, in order.

    Batch s holds the examples s * batch ... (s + 1) * batch - 1 for any number of replicas and
    parts. Each replica gets a contiguous share of each part.

    Attributes:
        waited_s: seconds that the training has waited for batches.
    """

    def __init__(
        self, examples: Examples, batch: int, strategy: Any, readers: Readers, parts: int = 1
    ) -> None:
        self._examples, self._batch, self._strategy = examples, batch, strategy
        self._parts = parts
        self._readers = readers
        self._dtype = examples.dtype  # of every batch, so that the step is traced once
        self._reading: dict[int, str] = {}  # the case that is being read, by step
        self.waited_s = 0.0

    def batches(
        self, start: int, stop: int, waiting: Callable[[float, str], bool] | None = None
    ) -> Iterator[Batch]:
        """The batches of the steps start ... stop - 1.

        Args:
            start: first step.
            stop: the step after the last one.
            waiting: called a few times a second while a batch is not ready, with the seconds since
                it was requested and the case that is being read. If it returns True, no more
                batches come.

        Raises:
            BadInput: if a file cannot be read.
            ReadingError: if reading fails for another reason.
        """
        coming: deque[Future[list[Batch]]] = deque()
        for step in range(start, min(start + _AHEAD, stop)):
            coming.append(self._readers.submit(self._shares, step))
        for step in range(start, stop):
            begin = time.perf_counter()
            future = coming.popleft()
            while not arrived(future):
                case = self._reading.get(step, "a free reader")
                if waiting is not None and waiting(time.perf_counter() - begin, case):
                    return
            shares = future.result()
            self.waited_s += time.perf_counter() - begin
            if step + _AHEAD < stop:
                coming.append(self._readers.submit(self._shares, step + _AHEAD))
            yield self._distributed(shares)

    def _shares(self, step: int) -> list[Batch]:
        """The batch of a step, split into one share per replica."""
        first = step * self._batch
        examples = []
        for i in range(first, first + self._batch):
            if self._readers.ended():
                raise CancelledError  # nobody waits for this batch
            examples.append(self._example(step, i))
        self._reading.pop(step, None)
        arrays = Batch(
            np.stack([example.hu for example in examples], dtype=self._dtype),
            np.stack([example.noisy_hu for example in examples], dtype=self._dtype),
            np.stack([example.weights for example in examples]),
            np.array([example.sigma for example in examples], np.float32),
            np.stack([example.spectrum for example in examples]),
            np.array([example.dose for example in examples], np.float32),
            np.stack([example.key for example in examples]),
            np.stack([example.slices for example in examples], dtype=np.int32),
        )
        return [Batch(*share) for share in zip(*map(self._split, arrays), strict=True)]

    def _split(self, array: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """The share of each replica: its share of every part, one part after the other.

        A part holds the same examples for any number of replicas, which batch normalisation sees.
        """
        replicas = self._strategy.num_replicas_in_sync
        parts = [np.split(part, replicas) for part in np.split(array, self._parts)]
        return [np.concatenate(shares) for shares in zip(*parts, strict=True)]

    def _example(self, step: int, i: int) -> Example:
        self._reading[step] = case = self._examples.case(i)
        try:
            return self._examples[i]
        except (Refusal, MemoryError):
            raise
        except OSError as error:
            cause = f"cannot be read: {error.strerror or error}"
            remedy = "Check the disk or its network connection, then run the same command to resume"
            raise BadInput(error.filename or case, cause, remedy) from error
        except Exception as error:
            cause = f"{type(error).__name__} while {case} was read: {error}"
            raise ReadingError(cause) from error

    def _distributed(self, shares: list[Batch]) -> Batch:
        if len(shares) == 1:
            return Batch(*(tf.constant(array) for array in shares[0]))
        return Batch(*(self._one_a_replica(arrays) for arrays in zip(*shares, strict=True)))

    def _one_a_replica(self, arrays: tuple[npt.NDArray[Any], ...]) -> Any:
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(arrays[context.replica_id_in_sync_group])
        )


class Clock:
    """Time per step, and how much of it the step waited for its batch."""

    def __init__(self, fed: Feed) -> None:
        self._fed = fed
        self.restart()

    def restart(self) -> None:
        """Restarts the clock: the time since the last step is not counted."""
        self._begun, self._fed.waited_s = time.perf_counter(), 0.0

    def lap(self) -> tuple[float, float]:
        """Seconds of the step that ends now, and the part of them that it waited for its batch."""
        seconds, waited_s = time.perf_counter() - self._begun, self._fed.waited_s
        self.restart()
        return seconds, waited_s


@contextmanager
def feed(examples: Examples, batch: int, strategy: Any, parts: int = 1) -> Iterator[Feed]:
    """The batches of a training. The reader threads end with the block.

    Args:
        examples: of the training.
        batch: examples of a step, in all parts.
        strategy: of the devices.
        parts: in which a step takes them, see `Recipe.accumulate`.
    """
    readers = Readers(min(8, runtime.processors()))
    try:
        yield Feed(examples, batch, strategy, readers, parts)
    finally:
        readers.end()
