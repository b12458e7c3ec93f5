"""The residual, noisy - estimate: whether it is noise alone or holds anatomy."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from volumes.volume import Unit


def autocorrelation(residual: Unit) -> float:
    """Correlation of neighbouring voxels within slices; 0 for what is white.

    Args:
        residual: (Z, Y, X).
    """
    along_y = _correlation(residual[:, 1:], residual[:, :-1])
    along_x = _correlation(residual[:, :, 1:], residual[:, :, :-1])
    return (along_y + along_x) / 2


def edge_correlation(residual: Unit, clean: Unit) -> float:
    """Correlation of the residual's size with the clean image's edges; 0 for noise alone.

    Args:
        residual: (Z, Y, X).
        clean: (Z, Y, X); its edges are where the gradient within a slice is large.
    """
    slope = np.hypot(ndimage.sobel(clean, axis=1), ndimage.sobel(clean, axis=2))
    return _correlation(np.abs(residual), slope)


def _correlation(one: Unit, other: Unit) -> float:
    a, b = one.ravel() - one.mean(dtype=np.float64), other.ravel() - other.mean(dtype=np.float64)
    norm = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / norm if norm else 0.0
