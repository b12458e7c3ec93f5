"""Boxes: blocks of voxels, read from a volume with reflection at its borders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from volumes.volume import Shape

_FETCHED = 8  # slices
_CACHED = 4  # slices of a crop that fit into the cache of one core

Voxel = TypeVar("Voxel", bound=np.generic)


@dataclass(frozen=True)
class Box:
    """A block of voxels: `start` and `shape` along (Z, Y, X). It may extend beyond the volume."""

    start: tuple[int, int, int]
    shape: Shape

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The index of the box in a (Z, Y, X) array that contains all of it."""
        z, y, x = (slice(a, a + n) for a, n in zip(self.start, self.shape, strict=True))
        return z, y, x


def reflected(start: int, length: int, size: int) -> npt.NDArray[np.intp]:
    """(length,) indices into an axis of `size` voxels, reflected at its first and last voxel."""
    if size == 1:
        return np.zeros(length, np.intp)
    period = 2 * (size - 1)
    index = np.arange(start, start + length) % period
    return np.asarray(np.minimum(index, period - index), np.intp)


def read_box(volume: npt.NDArray[Voxel], box: Box) -> npt.NDArray[Voxel]:
    """The voxels of a box, with reflection beyond the borders of the volume.

    Args:
        volume: (Z, Y, X). If it is memory-mapped, only the pages of the box are read.
        box: may extend beyond the volume by any length.

    Example:
        >>> volume = np.arange(4)[None, None, :]
        >>> read_box(volume, Box(start=(0, 0, -2), shape=(1, 1, 4))).tolist()
        [[[2, 1, 0, 1]]]
    """
    axes = tuple(zip(box.start, box.shape, volume.shape, strict=True))
    inside = [a >= 0 and a + n <= size for a, n, size in axes]
    pairs = zip(box.slices, inside, strict=True)
    found = volume[tuple(own if fits else slice(None) for own, fits in pairs)]
    for axis, fits in enumerate(inside):
        if not fits:  # an axis at a time copies whole rows
            found = found.take(reflected(*axes[axis]), axis)
    return found


def copy_box(volume: npt.NDArray[Any], box: Box, out: npt.NDArray[Any]) -> None:
    """Copies the voxels of a box into an array, at the speed of memory.

    Axes are copied in runs that rise or fall, not voxel by voxel. Slices that are to be mirrored
    along X or turned are first copied as they are, a few at a time: to read them in another order
    is slow from memory, and fast from the processor's cache.

    Args:
        volume: (Z, Y, X), stored slice by slice, such as the arrays of the store.
        box: may extend beyond the volume by any length, which is reflected as in `read_box`.
        out: of the shape of the box, perhaps a mirrored or turned view. Its datatype holds that of
            the volume.

    Example:
        >>> out = np.zeros((1, 1, 4), int)
        >>> copy_box(np.arange(4)[None, None, :], Box(start=(0, 0, -2), shape=(1, 1, 4)), out)
        >>> out.tolist()
        [[[2, 1, 0, 1]]]
    """
    axes = zip(box.start, box.shape, volume.shape, strict=True)
    # To index a memory map takes microseconds, to index its array does not.
    voxels, runs = np.asarray(volume), product(*(list(_runs(*axis)) for axis in axes))
    few = None if out.strides[2] == out.itemsize else np.empty((_CACHED, *box.shape[1:]), out.dtype)
    for (to_z, from_z), (to_y, from_y), (to_x, from_x) in runs:
        target = out[to_z, to_y, to_x]
        source = np.broadcast_to(voxels[from_z, from_y, from_x], target.shape)
        if few is None:
            target[...] = source
            continue
        for first in range(0, len(target), _CACHED):
            part = target[first : first + _CACHED]
            cached = few[tuple(slice(extent) for extent in part.shape)]
            cached[...] = source[first : first + _CACHED]
            part[...] = cached


def _runs(start: int, length: int, size: int) -> Iterator[tuple[slice, slice]]:
    """The runs of `reflected` that rise or fall: their places in the box and in the volume."""
    if size == 1:
        yield slice(0, length), slice(0, 1)
        return
    period, done = 2 * (size - 1), 0
    while done < length:
        place = (start + done) % period
        rises = place < size
        count = min((size if rises else period) - place, length - done)
        last = period - place
        found = slice(place, place + count) if rises else slice(last, last - count, -1)
        yield slice(done, done + count), found
        done += count


def slices_of(volume: npt.NDArray[Voxel]) -> Iterator[npt.NDArray[Voxel]]:
    """The (Y, X) slices of a volume in order, each in one piece of memory.

    Several are copied at a time: if neighbouring slices lie side by side in memory, as in many
    files, to fetch one of them alone costs as much as to fetch all.

    Args:
        volume: (Z, Y, X), in any order in memory.
    """
    for z in range(0, len(volume), _FETCHED):
        yield from np.ascontiguousarray(volume[z : z + _FETCHED])


def resampled(block: npt.NDArray[Any], plane: tuple[int, int]) -> npt.NDArray[Any]:
    """Slices resampled to another size by cubic splines, in the datatype of the block.

    Splines overshoot at edges, so the result is clipped to the range of the block.

    Args:
        block: (Z, Y, X).
        plane: (Y, X) of the result.
    """
    if block.shape[1:] == plane:
        return block
    from scipy import ndimage

    zoom = (1, *(new / old for new, old in zip(plane, block.shape[1:], strict=True)))
    smooth = ndimage.zoom(
        block, zoom, output=np.float32, order=3, mode="reflect", grid_mode=True
    )  # grid_mode: the two grids have the edges of their pixels in common, not the centres
    smooth = np.rint(smooth) if block.dtype.kind == "i" else smooth
    return np.asarray(np.clip(smooth, block.min(), block.max()), block.dtype)
