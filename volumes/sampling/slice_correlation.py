"""Correlation of the noise of neighbouring slices, measured in a scan without a clean image.

Slices that overlap, and those that a spiral scan interpolates, share a part of their noise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volumes.volume import HU
from volumes.window import SOFT_TISSUE_HU

_SLICES = 16  # about the middle: enough voxels for a correlation to within 0.01
_FEWEST = 1000  # voxels
_OUTLIERS = 4.0  # standard deviations: edges of the anatomy


def slice_correlation(hu: HU, apart: int) -> float:
    """The correlation of the noise of slices some slices apart; NaN if there is no soft tissue.

    It is that of the diagonal details of 2 x 2 pixels (Haar wavelet) in soft tissue, which hold
    little anatomy (Donoho and Johnstone, Biometrika 81, 1994, estimate the noise level from them).

    Args:
        hu: (Z, Y, X), noisy.
        apart: distance in slices.

    Example:
        >>> hu = np.random.default_rng(0).normal(40, 20, (9, 64, 64))
        >>> overlapping = (hu[1:] + hu[:-1]) / 2
        >>> round(slice_correlation(overlapping, 1), 1), abs(round(slice_correlation(hu, 1), 1))
        (0.5, 0.0)
    """
    first = max((len(hu) - _SLICES) // 2, 0)
    slab = np.asarray(hu[first : first + _SLICES], np.float32)
    slab = slab[:, : slab.shape[1] // 2 * 2, : slab.shape[2] // 2 * 2]
    corners = slab[:, ::2, ::2], slab[:, 1::2, ::2], slab[:, ::2, 1::2], slab[:, 1::2, 1::2]
    detail, mean = corners[0] - corners[1] - corners[2] + corners[3], sum(corners) / 4
    low, high = SOFT_TISSUE_HU
    tissue = (mean > low) & (mean < high)
    if np.count_nonzero(tissue) < _FEWEST or len(slab) <= apart:
        return float("nan")
    spread = 1.4826 * np.median(np.abs(detail[tissue]))
    noise = tissue & (np.abs(detail) <= _OUTLIERS * spread)
    both = noise[apart:] & noise[:-apart]
    one, other = detail[apart:][both], detail[:-apart][both]
    return _correlation(one, other)


def _correlation(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    if len(one) < _FEWEST or not one.std() or not other.std():
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])
