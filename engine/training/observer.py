"""The observer: histograms of weights and gradients, and a profile, of the steps of a training.

The training step is the same with and without it. Gradients are computed once more, in a graph of
their own, from the batch and the weights that the step is about to use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tensorflow as tf

from engine.training.observation import Observation
from engine.training.step import Batch, Learned, TrainingStep
from engine.training.training_log import TrainingLog
from volumes.errors import one_line


class Observer:
    """Observes the steps of one training process.

    Args:
        observation: what is observed.
        step: of the training.
        folder: of TensorBoard, for the profile.
        log: takes the histograms, and warns.
    """

    def __init__(
        self, observation: Observation, step: TrainingStep, folder: Path, log: TrainingLog
    ) -> None:
        self._every, self._profile = observation.histograms, observation.profile
        self._step, self._folder, self._log = step, folder, log
        self._names = [variable.path for variable in step.model.trainable_variables]
        self._gradients = tf.function(self._of_batch)
        self._found: list[Any] = []
        self._profiling = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._stop()

    @contextmanager
    def around(self, number: int, batch: Batch) -> Iterator[None]:
        """Observes a step while the block runs.

        Args:
            number: of the step, counted from 1.
            batch: of the step.
        """
        if self._due(number):
            self._found = self._gradients(batch)
        first, last = self._profile or (0, 0)
        if first <= number <= last and not self._profiling:
            self._start()
        if not self._profiling:
            yield
            return
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            yield

    def after(self, number: int, learned: Learned) -> None:
        """Writes what was observed of a step. The scalars of earlier steps must be written."""
        if self._due(number):
            variables = self._step.model.trainable_variables
            weights = {f"weights/{v.path}": np.asarray(v.value.numpy()) for v in variables}
            gradients = {
                f"gradients/{name}": np.asarray(gradient.numpy())
                for name, gradient in zip(self._names, self._found, strict=True)
            }
            self._log.histograms(number, weights | gradients)
            self._found = []
        if self._profile is not None and number == self._profile[1]:
            float(learned.loss)  # waits until the device has done the step
            self._stop()

    def _due(self, number: int) -> bool:
        return self._every is not None and number % self._every == 0

    def _start(self) -> None:
        try:
            tf.profiler.experimental.start(str(self._folder))
            self._profiling = True
        except tf.errors.OpError as error:
            self._profile = None
            self._log.warn(one_line(f"no profile: {error.message}"))

    def _stop(self) -> None:
        if self._profiling:
            self._profiling = False
            try:
                tf.profiler.experimental.stop()
            except tf.errors.OpError as error:
                self._log.warn(one_line(f"no profile: {error.message}"))

    def _of_batch(self, batch: Batch) -> list[Any]:
        """The gradient of the loss over the global batch, one for each variable."""
        strategy = self._step.strategy
        found = strategy.run(self._replica, args=(batch,))
        return [strategy.experimental_local_results(gradient)[0] for gradient in found]

    def _replica(self, batch: Batch) -> list[Any]:
        step, scale = self._step, tf.identity(self._step.adam.scale)
        before = [tf.identity(variable) for variable in step.moving]
        _, gradients = step.summed(batch, scale)
        # Batch statistics and the states of dropout are those of before the step.
        for variable, value in zip(step.moving, before, strict=True):
            variable.assign(value)
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            gradients = replica.all_reduce("SUM", gradients)
        return [gradient / scale for gradient in gradients]
