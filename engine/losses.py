"""Losses: how far an estimate lies from the clean image, one number an example."""

from __future__ import annotations

from typing import Any


def mean_squared_error(clean: Any, estimate: Any) -> Any:
    """(B, Z, Y, X, C) float32 tensors in window units -> (B,), in squared window units."""
    import tensorflow as tf

    return tf.reduce_mean(tf.square(estimate - clean), axis=[1, 2, 3, 4])


def mean_absolute_error(clean: Any, estimate: Any) -> Any:
    """(B, Z, Y, X, C) float32 tensors in window units -> (B,), in window units."""
    import tensorflow as tf

    return tf.reduce_mean(tf.abs(estimate - clean), axis=[1, 2, 3, 4])
