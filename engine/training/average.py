"""Exponential moving average of the weights. It scores better than the trained weights."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_EARLY = 10.0


class Average:
    """Exponential moving average of a network's weights, updated every step.

    Polyak and Juditsky (1992) average all steps; the exponential form forgets the first ones. The
    average is validated, kept as best and applied. It includes the statistics of batch
    normalisation. Steps with non-finite numbers are left out.

    Args:
        learned: the Keras model that is trained.
        averaged: a second instance of the network. Its weights become the average.
        decay: share of the average that each step keeps, such as 0.998. Early steps keep less,
            (1 + n) / (10 + n) after n steps, so that the initial weights are forgotten.

    Attributes:
        state: every variable of the average by its name in a checkpoint.
    """

    def __init__(self, learned: Any, averaged: Any, decay: float) -> None:
        self.model = averaged
        self._decay = decay
        self._learned = [variable.value for variable in learned.weights]
        self._averaged = [variable.value for variable in averaged.weights]
        for mine, theirs in zip(self._averaged, self._learned, strict=True):
            mine.assign(theirs)
        self._steps = tf.Variable(0.0, trainable=False)
        self.state = {
            **{f"average/{variable.path}": variable.value for variable in averaged.weights},
            "average_steps": self._steps,
        }

    def update(self, finite: Any) -> None:
        """Updates the average. Call it in each replica, after the weights are updated.

        Args:
            finite: whether the step was finite. If not, nothing changes.
        """
        steps = self._steps.assign_add(tf.cast(finite, tf.float32))
        kept = tf.minimum(self._decay, (1.0 + steps) / (_EARLY + steps))
        taken = tf.where(finite, 1.0 - kept, 0.0)
        for mine, theirs in zip(self._averaged, self._learned, strict=True):
            # One fused kernel per variable: mine -= taken * (mine - theirs).
            tf.raw_ops.ResourceApplyGradientDescent(
                var=mine.handle, alpha=taken, delta=mine - theirs
            )
