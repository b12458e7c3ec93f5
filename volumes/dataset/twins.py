"""Twins: the same voxels in two files, such as a scan that was compressed again or renamed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from volumes.volume import HU, Volume

_WIDE_HU = 256
_INT16 = np.iinfo(np.int16)


def voxels_sha256(hu: HU) -> str:
    """A hash of voxels in canonical order, whatever file, datatype or spacing they come from.

    Values that span 256 or more are hashed as whole numbers: a copy in floating point differs by
    rounding. Narrower ranges, such as an image scaled to [0, 1], are hashed exactly.

    Args:
        hu: (Z, Y, X), with its padding set to air.

    Returns:
        The hash; empty for a volume with one value only, which says nothing about its origin.

    Example:
        >>> hu = np.arange(-300, 300, dtype=np.int16).reshape(6, 10, 10)
        >>> voxels_sha256(hu) == voxels_sha256(hu.astype(np.float32) + 1e-4)
        True
        >>> voxels_sha256(hu) == voxels_sha256(hu[::-1]), voxels_sha256(0 * hu)
        (False, '')
    """
    low, high = float(hu.min()), float(hu.max())
    if low == high:
        return ""
    found = hashlib.sha256(f"{hu.shape}".encode())
    whole = high - low >= _WIDE_HU
    fits = _INT16.min <= np.rint(low) and np.rint(high) <= _INT16.max
    for slice_ in hu:
        values = np.rint(slice_) if whole else slice_
        kind = ("<i2" if fits else "<f8") if whole else "<f4"
        found.update(np.ascontiguousarray(values, kind).data)
    return found.hexdigest()


class Twins(NamedTuple):
    """Two cases with the same voxels, and their sides of the split."""

    side: str
    case: str
    other_side: str
    other: str


def twins(sides: Iterable[tuple[str, Volume]]) -> Iterator[Twins]:
    """The cases that have the voxels of an earlier one.

    Args:
        sides: each volume with its side of the split.
    """
    first: dict[str, tuple[str, str]] = {}
    for side, volume in sides:
        known = next((first[sha256] for sha256 in volume.hashes if sha256 in first), None)
        if known is not None:
            yield Twins(side, volume.case, *known)
        for sha256 in volume.hashes:
            first.setdefault(sha256, (side, volume.case))
