"""Losses: the distance of an estimate from the clean image, one number per example."""

from __future__ import annotations

from typing import Any


def mean_squared_error(clean: Any, estimate: Any) -> Any:
    """The mean squared error: (B, Z, Y, X, C) tensors -> (B,).

    Args:
        clean: float32, in window units.
        estimate: of the same shape.

    Returns:
        In squared window units.

    Example:
        >>> import numpy as np
        >>> clean, estimate = np.zeros((2, 1, 8, 8, 1)), np.full((2, 1, 8, 8, 1), 0.5)
        >>> mean_squared_error(clean, estimate).numpy().tolist()
        [0.25, 0.25]
    """
    import tensorflow as tf

    return tf.reduce_mean(tf.square(estimate - clean), axis=[1, 2, 3, 4])


def mean_absolute_error(clean: Any, estimate: Any) -> Any:
    """The mean absolute error: (B, Z, Y, X, C) tensors -> (B,).

    Args:
        clean: float32, in window units.
        estimate: of the same shape.

    Returns:
        In window units.

    Example:
        >>> import numpy as np
        >>> clean, estimate = np.zeros((2, 1, 8, 8, 1)), np.full((2, 1, 8, 8, 1), 0.5)
        >>> mean_absolute_error(clean, estimate).numpy().tolist()
        [0.5, 0.5]
    """
    import tensorflow as tf

    return tf.reduce_mean(tf.abs(estimate - clean), axis=[1, 2, 3, 4])
