"""Tiles: boxes that cover a volume, so that networks can be applied to volumes of any size.

Tiles start at multiples of the network's stride and include its receptive radius as a halo. Every
voxel is therefore computed from the same numbers as without tiles: there are no seams to blend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from volumes.boxes import Box
from volumes.volume import Shape


@dataclass(frozen=True)
class Tile:
    """A box to compute, and the part of the result to keep.

    Attributes:
        read: the input of the network in the padded volume, including the halo.
        keep: the box of the volume that only this tile writes.
    """

    read: Box
    keep: Box

    @property
    def inner(self) -> tuple[slice, slice, slice]:
        """The index of `keep` within `read`."""
        start = [k - r for k, r in zip(self.keep.start, self.read.start, strict=True)]
        return Box((start[0], start[1], start[2]), self.keep.shape).slices


def padded(shape: Shape, stride: Shape) -> Shape:
    """The smallest multiple of the stride that is not smaller than a shape.

    Example:
        >>> padded((30, 100, 128), stride=(4, 8, 8))
        (32, 104, 128)
    """
    z, y, x = (-(-n // s) * s for n, s in zip(shape, stride, strict=True))
    return z, y, x


def tiles(shape: Shape, tile: Shape, halo: Shape, stride: Shape) -> Iterator[Tile]:
    """The tiles of a volume. Their kept parts cover every voxel exactly once.

    Args:
        shape: (Z, Y, X) of the volume.
        tile: voxels that one tile keeps, rounded up to the stride.
        halo: voxels that a kept voxel depends on in each direction, rounded up to the stride.
        stride: product of the network's pooling factors.

    Example:
        >>> for t in tiles((1, 1, 12), tile=(1, 1, 8), halo=(0, 0, 2), stride=(1, 1, 4)):
        ...     print(t.read.start, t.read.shape, t.keep.start, t.keep.shape)
        (0, 0, 0) (1, 1, 12) (0, 0, 0) (1, 1, 8)
        (0, 0, 4) (1, 1, 8) (0, 0, 8) (1, 1, 4)
    """
    whole = padded(shape, stride)
    tile, halo = padded(tile, stride), padded(halo, stride)
    axes = [
        [(max(a - h, 0), min(a + t + h, full), a, min(a + t, size)) for a in range(0, size, t)]
        for size, full, t, h in zip(shape, whole, tile, halo, strict=True)
    ]
    for z, y, x in product(*axes):
        read = Box((z[0], y[0], x[0]), (z[1] - z[0], y[1] - y[0], x[1] - x[0]))
        keep = Box((z[2], y[2], x[2]), (z[3] - z[2], y[3] - y[2], x[3] - x[2]))
        yield Tile(read, keep)
