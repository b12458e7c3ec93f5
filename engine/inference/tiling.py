"""Tiling: how a volume is cut into parts that fit into memory.

A 3D network is streamed along Z: slabs of whole planes follow each other, see
`engine.inference.streaming`. Where a plane does not fit into memory, it is cut into columns with a
halo in the plane, and each column is streamed. A 2D network needs no stream: its tiles are slabs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from engine import runtime
from engine.networks import ConvNet3D, Network, UNet3D
from volumes.boxes import Box, read_box
from volumes.storage import memory
from volumes.tiles import Tile, padded, tiles
from volumes.volume import Shape, Unit

Blocks = Callable[[Box], Unit]

_MEMORY_SHARE = 0.25
_MOST_BYTES = 4 * 2**30
_ENOUGH_BYTES = 2**29  # what fits needs no stream; tiles without a halo are no faster if larger
_PLANE_BYTES = 5 * 2**29  # planes of 512 x 512 fit in
_STEP_BYTES = 2**26  # more slices at a time are no faster
# A GPU starts thousands of threads for each layer: few slices at a time would leave it waiting.
_GPU_SHARE = 0.5  # the rest is for weights and the workspaces of cuDNN
_GPU_MOST_BYTES = 8 * 2**30
_GPU_ENOUGH_BYTES = 2**31
_GPU_STEP_BYTES = 2**31  # 8 slices of 512 x 512
_LEAST_STEP = 2  # one at a time is slower
_SLAB = 8  # slices of a slab: what reads neighbouring slices reads few twice


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
        streamed: whether tiles on top of each other share what their layers computed. They need no
            halo along Z.
        step_bytes: memory of the slices that enter a stream at a time.
    """

    shape: Shape
    tile: Shape
    network: Network
    streamed: bool = False
    step_bytes: int = _STEP_BYTES

    def tiles(self) -> Iterator[Tile]:
        """The tiles, top slices first; if streamed, column after column."""
        if not self.streamed:
            yield from tiles(self.shape, self.tile, self.network.radius, self.network.stride)
            return
        for column in self.columns():
            yield from self.slabs(column)

    def slabs(self, column: Tile) -> Iterator[Tile]:
        """The tiles of a stream in one of its columns."""
        for z in range(0, self.shape[0], self.tile[0]):
            depth = min(self.tile[0], self.shape[0] - z)
            read, keep = (
                Box((z, *box.start[1:]), (depth, *box.shape[1:]))
                for box in (column.read, column.keep)
            )
            yield Tile(read, keep)

    def columns(self) -> Iterator[Tile]:
        """The columns of a stream: all slices, with a halo in the plane."""
        column = (self.shape[0], *self.tile[1:])
        yield from tiles(self.shape, column, self.network.radius, self.network.stride)

    def reads(self) -> Iterator[Box]:
        """The boxes that are read for the tiles, in order."""
        if not self.streamed:
            yield from (tile.read for tile in self.tiles())
            return
        for column in self.columns():
            start, shape = column.read.start[1:], column.read.shape[1:]
            for z in range(0, self.depth, self.step):
                yield Box((z, *start), (min(self.step, self.depth - z), *shape))

    def in_slabs(self) -> Plan:
        """The same planes, streamed along Z."""
        return replace(self, tile=(max(self.step, _SLAB), *self.tile[1:]), streamed=True)

    def separate(self) -> Plan:
        """A plan without a stream, for half a GiB."""
        return _tiled(self.shape, self.network, _ENOUGH_BYTES)

    @property
    def step(self) -> int:
        """Slices that enter a stream at a time.

        On a CPU they depend on the plane, not on free memory: some convolutions of many channels
        round differently for another number of slices.
        """
        _, y, x = padded(self.shape, self.network.stride)
        slices = max(self.step_bytes / (y * x * self.network.bytes_per_voxel), 1)
        power = int(math.log2(slices))
        return min(self.tile[0], max(1 << power, _LEAST_STEP))

    @property
    def depth(self) -> int:
        """Slices that the network is applied to, a multiple of its stride."""
        return padded(self.shape, self.network.stride)[0]

    @property
    def count(self) -> int:
        """Number of tiles."""
        return sum(1 for _ in self.tiles())

    @property
    def bytes(self) -> int:
        """Memory that the network needs for the largest tile."""
        if self.streamed and isinstance(self.network, _Streamed):
            return self.network.streamed_bytes(
                max(math.prod(column.read.shape[1:]) for column in self.columns()), self.step
            )
        largest = max(math.prod(tile.read.shape) for tile in self.tiles())
        return largest * self.network.bytes_per_voxel

    def about(self) -> dict[str, Any]:
        """Plain data, from which the same plan can be made."""
        streamed = {"streamed": True} if self.streamed else {}
        return {"count": self.count, "shape": self.tile, **streamed}

    def __str__(self) -> str:
        """The number of tiles, their shape and their halo."""
        tile, halo = (" x ".join(map(str, each)) for each in (self.tile, self.network.radius))
        if not self.streamed:
            return f"{self.count} tiles that keep {tile}, halo {halo}"
        columns = sum(1 for _ in self.columns())
        beside = "" if columns == 1 else f" in {columns} columns, halo {halo.partition(' x ')[2]}"
        return f"{self.count} slabs of {tile}, streamed along Z{beside}"


_Streamed = UNet3D | ConvNet3D


def plan(
    shape: Shape, network: Network, tile: Shape | None = None, *, anywhere: bool = False,
    streamed: bool = False,
) -> Plan:  # fmt: skip
    """A plan with the given tile, else with the largest one that fits into memory.

    It uses a quarter of the free memory, at most 4 GiB; for a 2D network at most half a GiB. If the
    process computes on a GPU, it uses half of that GPU's memory, at most 8 GiB; for a 2D network at
    most 2 GiB. With `anywhere` it uses the same memory on every machine, free or not, so that the
    tiles are the same: half a GiB, or 2.5 GiB for the planes of a 3D network. A 3D network is
    streamed, unless the whole volume fits into half a GiB.

    Args:
        shape: (Z, Y, X) of the volume.
        network: to be applied.
        tile: shape of the voxels that one tile keeps.
        anywhere: whether the plan is the same on every machine.
        streamed: whether the given tile is one of a stream.
    """
    gpu = None if anywhere else runtime.gpu_bytes()
    step_bytes = _STEP_BYTES if gpu is None else _GPU_STEP_BYTES
    if tile is not None:
        return Plan(shape, tile, network, streamed, step_bytes)
    is_3d = isinstance(network, _Streamed) and network.radius[0] > 0
    if anywhere:
        budget = _PLANE_BYTES if is_3d else _ENOUGH_BYTES
    elif gpu is not None:
        budget = min(int(_GPU_SHARE * gpu), _GPU_MOST_BYTES if is_3d else _GPU_ENOUGH_BYTES)
    else:
        most = _MOST_BYTES if is_3d else _ENOUGH_BYTES
        budget = min(int(_MEMORY_SHARE * memory.free_bytes()), most)
    return _slabs(shape, network, budget, step_bytes) if is_3d else _tiled(shape, network, budget)


def _slabs(shape: Shape, network: Network, budget: int, step_bytes: int) -> Plan:
    """The plan of a stream: whole planes if they fit, else columns."""
    whole = Plan(shape, padded(shape, network.stride), network, step_bytes=step_bytes)
    if whole.bytes <= min(budget, _ENOUGH_BYTES):
        return whole
    found = whole.in_slabs()
    while found.bytes > budget and found.step > _LEAST_STEP and found.step_bytes > _STEP_BYTES:
        found = replace(found, step_bytes=max(found.step_bytes // 2, _STEP_BYTES))
    while found.bytes > budget:
        axis = 1 if found.tile[1] > found.tile[2] else 2
        half = _half(found.tile, axis, network)
        if half == found.tile:
            break
        found = replace(found, tile=half)
    return found


def _tiled(shape: Shape, network: Network, budget: int) -> Plan:
    """The plan of separate tiles with a halo."""
    voxels = budget / network.bytes_per_voxel
    whole = largest = padded(shape, network.stride)
    while math.prod(_with_halo(largest, whole, network)) > voxels:
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
