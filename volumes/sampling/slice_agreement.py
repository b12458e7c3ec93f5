"""Agreement of slices: where two noisy slices may show the same anatomy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

AGREE_HU = 30.0
_PIXELS = 7  # wide: the neighbourhood whose means are compared
_ERRORS = 3.0  # standard errors by which noise alone may move the difference of two means


def agreeing(difference: Any, limit: float) -> Any:
    """1 where the means of 7 x 7 pixels of two slices agree, else 0: (B, Z, Y, X, 1) float32.

    They agree if they differ by at most `limit`, or by at most three standard errors, estimated
    from the spread of the difference in the neighbourhood. Without the second part, chance would
    decide in strong noise, and prefer slices whose noise is alike.

    Args:
        difference: (B, Z, Y, X, 1) float32 tensor or array, of the two noisy slices.
        limit: in the same unit.

    Example:
        >>> difference = np.zeros((1, 1, 16, 16, 1), np.float32)
        >>> difference[:, :, :, 8:] = 100
        >>> agreeing(difference, 30.0).numpy()[0, 0, 0, :, 0].astype(int).tolist()
        [1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    import tensorflow as tf

    mean, square = (
        tf.nn.avg_pool3d(image, (1, _PIXELS, _PIXELS), 1, "SAME")
        for image in (difference, tf.square(difference))
    )
    # The squared standard error of the mean of independent pixels.
    error = (square - tf.square(mean)) / _neighbours(*difference.shape[2:4])
    allowed = tf.maximum(_ERRORS**2 * error, limit**2)
    return tf.cast(tf.square(mean) <= allowed, tf.float32)


def _neighbours(y: int, x: int) -> npt.NDArray[np.float32]:
    """(Y, X, 1) number of pixels of each neighbourhood, smaller at the borders."""
    reach = _PIXELS // 2
    high, wide = (
        np.minimum(np.arange(n) + reach, n - 1) - np.maximum(np.arange(n) - reach, 0) + 1
        for n in (y, x)
    )
    return np.outer(high, wide).astype(np.float32)[..., None]
