"""Batches: global batches of tensors, read ahead of the training step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from engine import runtime
from engine.errors import BadInput, Refusal
from engine.training.buffers import Buffers
from engine.training.device_cache import DeviceCache
from engine.training.reader_threads import Readers, arrived
from engine.training.step import Batch
from volumes.sampling.crops import Cut
from volumes.sampling.examples import Example, Examples

_AHEAD = 3
_IN_USE = 2  # the batch of the running step, and the one that the device still reads


class ReadingError(Exception):
    """A bug that occurred while an example was read. The message names the case."""


class Feed:
    """The global batches of a training, in order.

    Batch s holds the examples s * batch ... (s + 1) * batch - 1 for any number of replicas and
    parts. Each replica gets a contiguous share of each part.

    Voxels are copied once: from the mapped volume into a buffer that the tensor shares. With a
    device cache they are not read here: crops are cut on the device.

    Attributes:
        waited_s: seconds that the training has waited for batches.
    """

    def __init__(
        self, examples: Examples, batch: int, strategy: Any, readers: Readers, *,
        parts: int = 1, cache: DeviceCache | None = None,
    ) -> None:  # fmt: skip
        self._cache = cache
        self._examples, self._batch, self._strategy = examples, batch, strategy
        self._parts = parts
        self._readers = readers
        self._mine = _own_replicas(strategy)
        replicas = len(self._mine)
        self._buffers = Buffers(2 * replicas * (_AHEAD + _IN_USE))  # clean and noisy have one size
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
        """The shares of a batch of the replicas of this process. No other example is read."""
        shares = [[self._drawn(step, i) for i in share] for share in self._shared(step)]
        found = [self._share(step, drawn) for drawn in shares]
        self._reading.pop(step, None)
        return found

    def _shared(self, step: int) -> list[list[int]]:
        """The numbers of the examples of each replica of this process.

        They are its share of every part, one part after the other. A part holds the same examples
        for any number of replicas, which batch normalisation sees.
        """
        part = self._batch // self._parts
        count = part // self._strategy.num_replicas_in_sync
        parts = range(step * self._batch, (step + 1) * self._batch, part)
        return [
            [first + replica * count + k for first in parts for k in range(count)]
            for replica in self._mine
        ]

    def _drawn(self, step: int, i: int) -> Example:
        with self._named(step, self._examples.case(i)):
            return self._examples[i]

    def _share(self, step: int, drawn: Sequence[Example]) -> Batch:
        """Examples as arrays. Their voxels come last: to copy them empties the caches."""
        hu, noisy_hu = self._voxels(drawn)
        batch = Batch(
            hu,
            noisy_hu,
            self._stacked([np.bool_(example.mirrored) for example in drawn]),
            self._stacked([example.weights for example in drawn]),
            self._stacked([np.float32(example.sigma) for example in drawn]),
            self._stacked([example.spectrum for example in drawn]),
            self._stacked([np.float32(example.dose) for example in drawn]),
            self._stacked([example.key for example in drawn]),
            self._stacked([example.slices.astype(np.int32) for example in drawn]),
        )
        for k, example in enumerate(drawn) if self._cache is None else ():
            with self._named(step, example.case):
                example.clean.write(hu[k])
                if example.noisy is not None:
                    example.noisy.write(noisy_hu[k])
        return batch

    def _voxels(self, drawn: Sequence[Example]) -> tuple[Any, Any]:
        """Arrays for the clean and the noisy voxels; with a device cache, what it is to cut."""
        clean = [example.clean for example in drawn]
        noisy = [example.noisy for example in drawn if example.noisy is not None]
        z, y, x = clean[0].shape
        none = self._buffers.array((len(drawn), 0, y, x), self._dtype)
        if self._cache is not None:
            return clean, noisy or none
        hu = self._buffers.array((len(drawn), z, y, x), self._dtype)
        return hu, self._buffers.array(hu.shape, self._dtype) if noisy else none

    def _stacked(self, values: Sequence[Any]) -> npt.NDArray[Any]:
        first = values[0]
        out = self._buffers.array((len(values), *first.shape), first.dtype)
        return np.stack(values, out=out)

    @contextmanager
    def _named(self, step: int, case: str) -> Iterator[None]:
        """Names a case in errors, and while it is read.

        Raises:
            CancelledError: if nobody waits for the batch any more.
        """
        if self._readers.ended():
            raise CancelledError
        self._reading[step] = case
        try:
            yield
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
            return Batch(*(self._tensor(array, 0) for array in shares[0]))
        return Batch(*(self._one_a_replica(arrays) for arrays in zip(*shares, strict=True)))

    def _one_a_replica(self, arrays: tuple[Any, ...]) -> Any:
        def tensor(context: Any) -> Any:
            replica = context.replica_id_in_sync_group - self._mine.start
            return self._tensor(arrays[replica], replica)

        return self._strategy.experimental_distribute_values_from_function(tensor)

    def _tensor(self, found: npt.NDArray[Any] | list[Cut], replica: int) -> Any:
        """A tensor in the memory of an array, which it keeps alive, or of what the cache cuts."""
        if isinstance(found, list):
            assert self._cache is not None
            return self._cache.voxels(found, replica)
        return tf.experimental.dlpack.from_dlpack(found.__dlpack__())


def _own_replicas(strategy: Any) -> range:
    """The replicas of this process among those of all. Each process has as many."""
    resolver = strategy.cluster_resolver
    count = strategy.num_replicas_in_sync
    if resolver is None:
        return range(count)
    count //= len(resolver.cluster_spec().as_dict()["worker"])
    return range(resolver.task_id * count, (resolver.task_id + 1) * count)


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
def feed(
    examples: Examples, batch: int, strategy: Any, *, parts: int = 1, on_device: bool = False
) -> Iterator[Feed]:
    """The batches of a training. The reader threads end with the block.

    Args:
        examples: of the training.
        batch: examples of a step, in all parts.
        strategy: of the devices.
        parts: in which a step takes them, see `Recipe.accumulate`.
        on_device: whether the volumes are copied to the devices, which then cut the crops.
    """
    cache = DeviceCache(examples, strategy.extended.worker_devices) if on_device else None
    readers = Readers(min(8, runtime.processors()))
    try:
        yield Feed(examples, batch, strategy, readers, parts=parts, cache=cache)
    finally:
        readers.end()
