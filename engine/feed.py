"""The feed: arrays become tensors, ahead of the step that wants them."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from engine.step import Batch
from volumes.examples import Examples

_AHEAD = 3


class Feed:
    """The global batches of a training, from a step on, in order.

    Batch s holds the examples s * batch ... (s + 1) * batch - 1 whatever the number of replicas,
    each of which gets a contiguous share.

    Attributes:
        waited_s: time that the training has spent waiting for batches.
    """

    def __init__(self, examples: Examples, batch: int, strategy: Any, pool: ThreadPoolExecutor):
        self._examples, self._batch, self._strategy, self._pool = examples, batch, strategy, pool
        self.waited_s = 0.0

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of the steps start ... stop - 1."""
        coming: deque[Future[list[Batch]]] = deque()
        for step in range(start, min(start + _AHEAD, stop)):
            coming.append(self._pool.submit(self._shares, step))
        for step in range(start, stop):
            begin = time.perf_counter()
            shares = coming.popleft().result()
            self.waited_s += time.perf_counter() - begin
            if step + _AHEAD < stop:
                coming.append(self._pool.submit(self._shares, step + _AHEAD))
            yield self._distributed(shares)

    def _shares(self, step: int) -> list[Batch]:
        """The batch of a step, cut into one share a replica."""
        first = step * self._batch
        examples = [self._examples[i] for i in range(first, first + self._batch)]
        arrays = Batch(
            np.stack([example.hu for example in examples]),
            np.stack([example.noisy_hu for example in examples]),
            np.stack([example.weights for example in examples]),
            np.array([example.sigma for example in examples], np.float32),
            np.array([example.dose for example in examples], np.float32),
            np.stack([example.key for example in examples]),
        )
        replicas = self._strategy.num_replicas_in_sync
        return [
            Batch(*share) for share in zip(*(np.split(a, replicas) for a in arrays), strict=True)
        ]

    def _distributed(self, shares: list[Batch]) -> Batch:
        if len(shares) == 1:
            return Batch(*(tf.constant(array) for array in shares[0]))
        return Batch(*(self._one_a_replica(arrays) for arrays in zip(*shares, strict=True)))

    def _one_a_replica(self, arrays: tuple[npt.NDArray[Any], ...]) -> Any:
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(arrays[context.replica_id_in_sync_group])
        )


@contextmanager
def feed(examples: Examples, batch: int, strategy: Any) -> Iterator[Feed]:
    """A feed whose reading threads end with the block."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="feed")
    try:
        yield Feed(examples, batch, strategy, pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def tensor(array: npt.NDArray[Any]) -> Any:
    """(Z, Y, X) in window units -> (1, Z, Y, X, 1) float32 tensor."""
    return tf.constant(array[None, ..., None], tf.float32)
