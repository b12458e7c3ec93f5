"""The worker: computes its share of the steps that the chief of a cluster begins."""

from __future__ import annotations

import time

import tensorflow as tf

from engine.checkpoints import checkpoint
from engine.recipe.recipe import Recipe
from engine.runs.run import Run
from engine.runtime import Runtime
from engine.training import out_of_memory
from engine.training.batches import feed
from engine.training.cluster import Cluster
from engine.training.state import TrainingState
from volumes.sampling.examples import Examples

_CACHED_S = 60.0  # for which a network file system may show a folder as it was


class Worker:
    """A process that learns with the chief, and writes nothing.

    The chief must make its own `TrainingState` at the same time: each new variable takes the value
    that it has there.
    """

    def __init__(self, recipe: Recipe, runtime: Runtime, cluster: Cluster) -> None:
        self._recipe, self._runtime, self._cluster = recipe, runtime, cluster
        self._training = TrainingState(recipe, runtime)

    def work(self, run: Run, examples: Examples, *, on_device: bool) -> None:
        """Works until the chief ends.

        Args:
            run: whose checkpoint the chief has restored.
            examples: of the training.
            on_device: as in `TrainingPlan`.

        Raises:
            SystemExit: with the exit code of the chief.
        """
        begin = self._cluster.told()
        recipe, first = self._recipe, int(begin["step"])
        if begin["saved"]:
            self._restore(run, first)
        with (
            out_of_memory.told(recipe, run.folder, self._runtime.replicas),
            feed(
                examples,
                recipe.examples_per_step,
                self._runtime.strategy,
                parts=recipe.accumulate,
                on_device=on_device,
            ) as fed,
        ):
            before = None
            for step, batch in enumerate(fed.batches(first, recipe.steps), first):
                self._cluster.told()
                rate = recipe.learning_rate(step, recipe.steps)
                learned = self._training.step(batch, tf.constant(rate, tf.float32))
                if before is not None:  # as the chief waits: no more than one step is ahead
                    float(before.loss)
                before = learned
            self._cluster.told()  # the chief validates and saves

    def _restore(self, run: Run, step: int) -> None:
        path = checkpoint.place(run.checkpoints, step)
        until = time.monotonic() + _CACHED_S
        while not path.exists() and time.monotonic() < until:
            time.sleep(1.0)
        self._training.assign(checkpoint.load(path, self._training.headers()))
