"""Tiling: how a volume is cut into tiles that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from engine.networks import Network
from volumes.boxes import Box, read_box
from volumes.storage import memory
from volumes.tiles import Tile, padded, tiles
from volumes.volume import Shape, Unit

Blocks = Callable[[Box], Unit]

_MEMORY_SHARE = 0.25
_MOST_BYTES = 4 * 2**30
_ENOUGH_BYTES = 2**29  # if tiles need no halo, larger ones are no faster


def blocks_of(volume: Unit) -> Blocks:
    """Blocks of an array, which is reflected at its borders."""
    return lambda box: read_box(volume, box)


@dataclass(frozen=True)
class Plan:
    """How a volume is cut into tiles.

    Attributes:
        shape: (Z, Y, X) of the volume.
        tile: shape of the voxels that one tile keeps.
        network: whose stride and radius the tiles respect.
    """

    shape: Shape
    tile: Shape
    network: Network

    def tiles(self) -> Iterator[Tile]:
        """The tiles, top slices first."""
        return tiles(self.shape, self.tile, self.network.radius, self.network.stride)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return sum(1 for _ in self.tiles())

    @property
    def bytes(self) -> int:
        """Memory that the network needs for the largest tile."""
        largest = max(math.prod(tile.read.shape) for tile in self.tiles())
        return largest * self.network.bytes_per_voxel


def plan(
    shape: Shape, network: Network, tile: Shape | None = None, *, anywhere: bool = False
) -> Plan:
    """A plan with the given tile, else with the largest one that fits into memory.

    It uses a quarter of the free memory, at most 4 GiB; for a 2D network at most half a GiB. With
    `anywhere` it uses half a GiB, free or not, so that the tiles are the same on every machine.
    """
    if tile is not None:
        return Plan(shape, tile, network)
    most = _MOST_BYTES if all(network.radius) else _ENOUGH_BYTES
    taken = _ENOUGH_BYTES if anywhere else min(_MEMORY_SHARE * memory.free_bytes(), most)
    budget = taken / network.bytes_per_voxel
    whole = largest = padded(shape, network.stride)
    while math.prod(_with_halo(largest, whole, network)) > budget:
        cuts = [axis for axis in range(3) if _half(largest, axis, network) != largest]
        if not cuts:
            break
        largest = _half(largest, min(cuts, key=partial(_waste, largest, network)), network)
    return Plan(shape, largest, network)


def _waste(tile: Shape, network: Network, axis: int) -> tuple[bool, int]:
    """Sort key of an axis: the computation that is wasted if a tile is halved along it.

    An axis without a halo, as the slices of a 2D network, wastes nothing. Otherwise the longest
    axis is best: compact tiles waste least.
    """
    return network.radius[axis] > 0, -tile[axis]


def _half(tile: Shape, axis: int, network: Network) -> Shape:
    """The tile halved along an axis, rounded up to the stride."""
    half = padded((-(-tile[axis] // 2),) * 3, network.stride)[axis]
    z, y, x = (half if i == axis else n for i, n in enumerate(tile))
    return z, y, x


def _with_halo(tile: Shape, whole: Shape, network: Network) -> Shape:
    halo = padded(network.radius, network.stride)
    z, y, x = (min(t + 2 * h, n) for t, h, n in zip(tile, halo, whole, strict=True))
    return z, y, x
