"""The optimizer: Adam in replica context, on raw variables, with loss scaling.

Keras' own optimizers sum the replicas' gradients after scaling and clipping: a non-finite gradient
of the second replica is not detected, and clipping sees only a part of the gradient. Here the
gradients arrive summed. They are unscaled, checked, clipped and applied, in this order. Every
replica does the same.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-7
_FIRST_SCALE, _GROW_AFTER = 2.0**15, 2000
_UNSCALED = -1  # instead of the number of good steps since the last change: no loss scale


class Adam:
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1) with a dynamic loss scale and weight decay.

    The decay is decoupled from the gradient (AdamW: Loshchilov and Hutter, ICLR 2019, algorithm 2):
    neither clipping nor Adam's moments see it. Kernels decay; biases and the scales of
    normalisation, which have one axis, do not.

    Attributes:
        variables: the trained variables.
        state: every variable of the optimizer by its name in a checkpoint.
    """

    def __init__(
        self, variables: dict[str, Any], *, scaled: bool, clip_norm: float,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        self.variables = list(variables.values())
        self._scaled, self._clip_norm, self._weight_decay = scaled, clip_norm, weight_decay
        self._mean = [_zeros(variable) for variable in self.variables]
        self._square = [_zeros(variable) for variable in self.variables]
        self._applied = tf.Variable(0.0, trainable=False)
        self.scale = tf.Variable(_FIRST_SCALE if scaled else 1.0, trainable=False)
        self._since = tf.Variable(0 if scaled else _UNSCALED, dtype=tf.int64, trainable=False)
        self.state = {
            **{f"adam/mean/{name}": v for name, v in zip(variables, self._mean, strict=True)},
            **{f"adam/square/{name}": v for name, v in zip(variables, self._square, strict=True)},
            "adam/applied": self._applied,
            "loss_scale/scale": self.scale,
            "loss_scale/since": self._since,
        }

    def update(self, gradients: list[Any], learning_rate: Any, sound: Any = True) -> Any:
        """Applies the gradients of the scaled loss, summed over replicas. Call it in each replica.

        Args:
            gradients: one per variable.
            learning_rate: of this step.
            sound: whether the loss was finite. A non-finite loss may have finite gradients.

        Returns:
            Whether all were finite. If not, only the loss scale changes.
        """
        gradients = [gradient / self.scale for gradient in gradients]
        finite = [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients]
        finite = tf.reduce_all([sound, *finite])
        if self._clip_norm > 0:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm)
        tf.cond(finite, lambda: self._apply(gradients, learning_rate), lambda: 0)
        if self._scaled:
            self._rescale(finite)
        return finite

    def settle(self) -> None:
        """Resets the loss scale if the checkpoint was saved in another precision."""
        if self._scaled != (int(self._since.numpy()) != _UNSCALED):
            self.scale.assign(_FIRST_SCALE if self._scaled else 1.0)
            self._since.assign(0 if self._scaled else _UNSCALED)

    def _apply(self, gradients: list[Any], learning_rate: Any) -> int:
        applied = self._applied.assign_add(1.0)
        for variable, mean, square, gradient in zip(
            self.variables, self._mean, self._square, gradients, strict=True
        ):
            if self._weight_decay and len(variable.shape) > 1:
                variable.assign_sub(learning_rate * self._weight_decay * variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=mean.handle,
                v=square.handle,
                beta1_power=tf.pow(_BETA1, applied),
                beta2_power=tf.pow(_BETA2, applied),
                lr=learning_rate,
                beta1=_BETA1,
                beta2=_BETA2,
                epsilon=_EPSILON,
                grad=gradient,
            )
        return 0

    def _rescale(self, finite: Any) -> None:
        """Doubles the scale after 2000 good steps. Halves it after a bad one, but not below 1."""
        grown = tf.logical_and(finite, self._since + 1 >= _GROW_AFTER)
        factor = tf.where(grown, 2.0, tf.where(finite, 1.0, 0.5))
        self.scale.assign(tf.maximum(self.scale * factor, 1.0))
        self._since.assign(
            tf.where(tf.logical_or(grown, ~finite), tf.zeros_like(self._since), self._since + 1)
        )


def _zeros(variable: Any) -> Any:
    return tf.Variable(tf.zeros(variable.shape, variable.dtype), trainable=False)
