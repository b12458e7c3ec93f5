"""Padding: voxels that no scanner measured. Denoising must not change them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

NEVER_MEASURED_HU = -1500
AIR_LIKE_HU = -900
_SMALLEST_FIELD = 0.01


def padding(hu: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """(Z, Y, X) mask of the voxels that are padding, not measured values.

    There are three kinds of padding:

    - Values that are not finite.
    - Values of -1500 HU or less that have at least two such neighbours in their slice. Strong noise
      in air also reaches such values, but only in isolated voxels.
    - A constant outside the field of view: the common value of all four corners of a slice, if it
      is as low as air, in the connected regions that contain a corner. Regions that only touch an
      edge are measured: streaks and noise in air that were clipped at that value.

    Args:
        hu: (Z, Y, X). Each slice is examined alone.

    Example:
        >>> slice_ = np.full((8, 8), -1024.0)
        >>> slice_[2:6, 2:6] = 40.0
        >>> int(padding(slice_[None]).sum())
        48
    """
    mask = np.zeros(hu.shape, bool)
    for z, slice_ in enumerate(hu):
        mask[z] = ~np.isfinite(slice_) | _never_measured(slice_) | _outside_field(slice_)
    return mask


def padding_of(
    hu: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]], stored: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """(Z, Y, X) mask of the padding of stored values, converted to HU one slice at a time.

    A scan with one value only is all padding.

    Args:
        hu: converts stored values to HU.
        stored: (Z, Y, X).
    """
    if (stored == stored.flat[0]).all():
        return np.ones(stored.shape, bool)
    mask = np.empty(stored.shape, bool)
    for z in range(len(stored)):
        mask[z : z + 1] = padding(hu(stored[z : z + 1]))
    return mask


def _never_measured(slice_: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    from scipy import ndimage  # a slow import: errors about bad input must come before it

    low = slice_ <= NEVER_MEASURED_HU
    if not low.any():
        return low
    neighbours = ndimage.convolve(low.astype(np.uint8), np.ones((3, 3), np.uint8), mode="constant")
    return np.asarray(low & (neighbours >= 3))


def _outside_field(slice_: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    from scipy import ndimage

    corners = [0, 0, -1, -1], [0, -1, 0, -1]
    constant = slice_[0, 0]
    if not (slice_[corners] == constant).all() or constant > AIR_LIKE_HU:
        return np.zeros(slice_.shape, bool)
    regions, count = ndimage.label(slice_ == constant)
    size = np.bincount(regions.ravel(), minlength=count + 1)
    field = np.zeros(count + 1, bool)
    field[regions[corners]] = True
    field &= size >= _SMALLEST_FIELD * slice_.size
    return np.asarray(field[regions])
