"""Padding: voxels that no scanner measured. Denoising must not change them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.boxes import slices_of
from volumes.volume import BELOW_WATER_HU, LEAST_BELOW

NEVER_MEASURED_HU = -1500
AIR_LIKE_HU = -900
_LARGE, _FEWEST = 0.01, 32
_AIR_BESIDE = 0.9
_MOST_EQUAL = 0.5
_CLOSE_HU, _MOST_CLOSE, _MOST_ELSEWHERE = 5, 0.5, 0.05
_CORNERS = [0, 0, -1, -1], [0, -1, 0, -1]

Slice = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def padding(voxels: npt.NDArray[Any], hu: Callable[[Slice], Slice] = np.asarray) -> Mask:
    """(Z, Y, X) mask of the voxels that are padding, not measured values.

    There are four kinds of padding:

    - Values that are not finite.
    - Values of -1500 HU or less that have at least two such neighbours in their slice. Strong noise
      in air also reaches such values, but only in isolated voxels.
    - A constant outside the field of view, of any value. A field of view is convex, so that
      whatever lies outside of it reaches a corner of the slice. Candidates are the connected
      regions of equal voxels that hold a corner. Voxels that are not finite connect them. Corners
      may differ in their values.
    - A slice of one value, if it is as low as air (-900 HU), or if another slice has noise.

    A candidate is padding in three cases:

    - It is as low as air, all four corners have its value, and it fills 1 % of the slice.
    - It is denser, all four corners have its value, and 90 % of the voxels beside it are air.
    - It has 32 voxels or more, and less than 5 % of the slice have its value elsewhere. The other
      voxels have noise (at most half of the neighbours are equal), and 1 % of them are below -20 HU
      (as in every CT, and in no photograph). It was not clipped.

    Measured values may be clipped at the lowest and at the highest value of a slice. A candidate of
    such a value is measured if half of the voxels beside it are within 5 HU of it, or if it is the
    lowest and denser than air: that is air in a display window.

    So these are measured: flat regions within the body, metal at the highest value, regions of
    clipped air that only touch an edge, and tissue without noise that fills a slice.

    Args:
        voxels: (Z, Y, X), the slices of one scan.
        hu: converts a slice of voxels to HU; by default they are HU.

    Example:
        >>> slice_ = np.full((8, 8), -1024.0)
        >>> slice_[2:6, 2:6] = 40.0
        >>> int(padding(slice_[None]).sum())
        48
    """
    mask = np.empty(voxels.shape, bool)
    of_one_value, noise = [], False
    for z, stored in enumerate(slices_of(voxels)):
        slice_ = hu(stored)
        low, high = float(slice_.min()), float(slice_.max())  # not finite if any voxel is not
        mask[z] = _outside_field(slice_)
        if not math.isfinite(low) or not math.isfinite(high):
            mask[z] |= ~np.isfinite(slice_)
        if not low > NEVER_MEASURED_HU:
            mask[z] |= _never_measured(slice_)
        if low == high:
            of_one_value.append(z)
        else:
            noise = noise or _has_noise(slice_, ~mask[z])
    if noise:
        mask[of_one_value] = True
    return mask


def padding_of(
    hu: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]], stored: npt.NDArray[Any]
) -> Mask:
    """(Z, Y, X) mask of the padding of stored values, converted to HU one slice at a time.

    A scan with one value only is all padding.

    Args:
        hu: converts stored values to HU.
        stored: (Z, Y, X).
    """
    if stored[0, 0, 0] == stored[-1, -1, -1] and (stored == stored[0, 0, 0]).all():
        return np.ones(stored.shape, bool)
    return padding(stored, hu)


def _never_measured(slice_: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    from scipy import ndimage  # a slow import: errors about bad input must come before it

    low = slice_ <= NEVER_MEASURED_HU
    neighbours = ndimage.convolve(low.astype(np.uint8), np.ones((3, 3), np.uint8), mode="constant")
    return np.asarray(low & (neighbours >= 3))


def _outside_field(slice_: Slice) -> Mask:
    from scipy import ndimage

    found = np.zeros(slice_.shape, bool)
    for value in np.unique(slice_[_CORNERS]):
        if not _is_flat_in_a_corner(slice_, value):
            continue
        equal = slice_ == value
        regions, count = ndimage.label(equal | ~np.isfinite(slice_))
        everywhere = bool(regions[_CORNERS].all())
        held = np.unique(regions[_CORNERS][regions[_CORNERS] > 0])
        sizes = np.bincount(regions[equal], minlength=count + 1)
        away = int(sizes.sum() - sizes[held].sum())
        for label in held:
            region = (regions == label) & equal
            if _is_padding(slice_, region, float(value), away, everywhere=everywhere):
                found |= region
    return found


def _is_flat_in_a_corner(slice_: Slice, value: Any) -> bool:
    """Whether a corner and a voxel beside it have a value: noise alone rarely does so."""
    ends = (slice(None, 2), slice(-2, None))
    corners = (slice_[y, x] for y in ends for x in ends)
    return any(np.count_nonzero(corner == value) >= min(2, corner.size) for corner in corners)


def _is_padding(slice_: Slice, region: Mask, value: float, away: int, *, everywhere: bool) -> bool:
    """Whether a region that holds a corner is padding.

    Args:
        slice_: (Y, X) HU.
        region: its mask.
        value: its value.
        away: number of voxels of the same value that are connected to no corner.
        everywhere: whether all corners have that value, or are not finite.
    """
    from scipy import ndimage

    size = np.count_nonzero(region)
    air_like = value <= AIR_LIKE_HU
    if everywhere and air_like and size >= _LARGE * region.size:
        return True
    if not _FEWEST <= size < region.size:
        return False
    beside = slice_[ndimage.binary_dilation(region) & ~region].astype(np.float64)
    if everywhere and not air_like and np.mean(beside <= AIR_LIKE_HU) >= _AIR_BESIDE:
        return True
    if away >= _MOST_ELSEWHERE * region.size:
        return False
    others = ~region & np.isfinite(slice_) & (slice_ > NEVER_MEASURED_HU)
    measured = slice_[others]
    if np.count_nonzero(measured < BELOW_WATER_HU) < max(LEAST_BELOW * measured.size, 1):
        return False
    if not _has_noise(slice_, others):
        return False
    lowest, highest = not (measured < value).any(), not (measured > value).any()
    if lowest and not air_like:
        return False
    clipped = np.mean(np.abs(beside - value) <= _CLOSE_HU) >= _MOST_CLOSE
    return not ((lowest or highest) and bool(clipped))


def _has_noise(slice_: Slice, within: Mask) -> bool:
    """Whether few neighbours are equal, apart from those at the lowest or the highest value."""
    values = slice_[within]
    if not values.size:
        return False
    inner = within & (slice_ > values.min()) & (slice_ < values.max())
    both = [inner[1:] & inner[:-1], inner[:, 1:] & inner[:, :-1]]
    same = [slice_[1:] == slice_[:-1], slice_[:, 1:] == slice_[:, :-1]]
    neighbours = sum(np.count_nonzero(pairs) for pairs in both)
    equal = sum(np.count_nonzero(a & b) for a, b in zip(both, same, strict=True))
    return bool(neighbours) and bool(equal <= _MOST_EQUAL * neighbours)
