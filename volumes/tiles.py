"""Tiles: boxes that cover a volume of any shape, so that a network of any size can be applied.

Tiles start on the network's stride and carry its receptive radius as a halo. Then every voxel is
computed from the same numbers as in the untiled volume: there are no seams to blend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from volumes.boxes import Box
from volumes.volume import Shape


@dataclass(frozen=True)
class Tile:
    """A box to compute and the part of it to keep.

    Attributes:
        read: the box given to the network, halo included, within the padded volume.
        keep: the box of the volume that this tile alone writes.
    """

    read: Box
    keep: Box

    @property
    def inner(self) -> tuple[slice, slice, slice]:
        """Where `keep` lies within `read`."""
        start = [k - r for k, r in zip(self.keep.start, self.read.start, strict=True)]
        return Box((start[0], start[1], start[2]), self.keep.shape).slices


def padded(shape: Shape, stride: Shape) -> Shape:
    """The smallest shape that holds a volume and is a multiple of the stride."""
    z, y, x = (-(-n // s) * s for n, s in zip(shape, stride, strict=True))
    return z, y, x


def tiles(shape: Shape, tile: Shape, halo: Shape, stride: Shape) -> Iterator[Tile]:
    """Boxes whose kept parts cover a volume exactly once.

    Args:
        shape: (Z, Y, X) of the volume.
        tile: voxels that one tile keeps, rounded up to the stride.
        halo: voxels that a kept voxel depends on in each direction, rounded up to the stride.
        stride: product of the network's pooling factors.
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
