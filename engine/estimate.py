"""Estimates: a network with its prior applied to a whole volume, tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np

from engine.networks import Network
from volumes import draws, memory
from volumes.crops import Box, read, reflected
from volumes.dose import told
from volumes.noise import Noise
from volumes.priors import NeighbourMean
from volumes.scanned import LowDose
from volumes.sources import Noisy, Source
from volumes.tiles import Tile, padded, tiles
from volumes.volume import Shape, Unit

Blocks = Callable[[Box], Unit]

_MEMORY_SHARE = 0.25
_MOST_BYTES = 4 * 2**30
_ENOUGH_BYTES = 2**29  # where tiles can be parted without a halo, larger ones are no faster
_SLICES = 256  # of a source that are kept: neighbouring tiles ask for the same ones


def blocks_of(volume: Unit) -> Blocks:
    """Blocks of an array; beyond it they are its reflection."""
    return lambda box: read(volume, box)


@cache
def _graph(source: Source) -> Any:
    """A source as a graph, traced once a shape for all volumes; it needs shapes that are known."""
    import tensorflow as tf

    return tf.function(source.image)


def source_blocks(
    source: Source, noisy: Blocks, shape: Shape, sigma: float, clean: Blocks | None = None
) -> Blocks:
    """Blocks of a prior's source, made from whole slices: the same in every tile.

    Args:
        source: what is made, opened.
        noisy: blocks of the noisy volume.
        shape: (Z, Y, X) of the volume.
        sigma: standard deviation of its noise in window units.
        clean: blocks of the clean volume, where it is known.
    """
    if isinstance(source, Noisy):
        return noisy
    from engine.feed import tensor

    graph = _graph(source)

    @lru_cache(maxsize=_SLICES)
    def slice_(z: int) -> Unit:
        whole = Box((z, 0, 0), (1, *shape[1:]))
        known = None if clean is None else tensor(clean(whole))
        image = graph(known, tensor(noisy(whole)), np.array([sigma], np.float32))
        return np.asarray(image.numpy()[0, 0, ..., 0], np.float32)

    def block(box: Box) -> Unit:
        z, y, x = (reflected(*axis) for axis in zip(box.start, box.shape, shape, strict=True))
        return np.stack([slice_(int(index))[np.ix_(y, x)] for index in z])

    return block


def prior_blocks(prior: NeighbourMean, source: Blocks, depth: int, spacing_z_mm: float) -> Blocks:
    """Blocks of the prior of a noisy volume, from those of its source.

    Beyond the last slice the prior is reflected as the noisy volume is: padding is never counted
    as a neighbour.
    """

    def block(box: Box) -> Unit:
        rows = reflected(box.start[0], box.shape[0], depth)
        first, length = int(rows.min()), int(np.ptp(rows)) + 1
        slab = source(
            Box(
                (first - prior.halo, *box.start[1:]),
                (length + 2 * prior.halo, *box.shape[1:]),
            )
        )
        return prior.of_slab(slab, first, depth, spacing_z_mm)[rows - first]

    return block


@dataclass(frozen=True)
class Plan:
    """How a volume is cut into tiles.

    Attributes:
        shape: (Z, Y, X) of the volume.
        tile: voxels that one tile keeps.
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
    """A plan with the tile asked for, else with the largest one that fits into memory.

    A quarter of the free memory is taken, and no more than 4 GiB; for a 2D network half a GiB. That
    much is taken `anywhere`, free or not, where the tiles must be the same on every machine.
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
    """Orders axes by what is computed in vain where a tile is halved along them.

    Slices of a 2D network need no halo; else the longest axis, since compact tiles waste least.
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


def photons_told(network: Network, noise: Noise) -> float | None:
    """Photons a ray of the typical scan under a noise, for a network that sees the dose."""
    dose = noise.acquisition.dose if isinstance(noise, LowDose) else None
    return dose.photons if dose and network.sees_dose else None


class Estimator:
    """Applies one network to volumes; its graph is traced once.

    Args:
        model: the Keras model.
        photons: a ray, of the scans, for a network that sees the dose.
    """

    def __init__(self, model: Any, photons: float | None = None) -> None:
        import tensorflow as tf

        self._model = model
        self._beyond: float | None = None
        self._dose = [] if photons is None else [np.full((1, 1, 1), told(photons))]
        self._infer = tf.function(
            lambda images: model(images, training=False), reduce_retracing=True
        )

    def beyond_halo(self, network: Network) -> float:
        """How much an estimate changes with what lies beyond a tile's halo, in window units.

        A network of convolutions changes by nothing. One with statistics over the whole image, or
        that reaches farther than its `radius` says, would leave seams. Found out once.

        Args:
            network: gives the stride and the radius that tiles keep to.
        """
        if self._beyond is None:
            self._beyond = self._probed(network)
        return self._beyond

    def _probed(self, network: Network) -> float:
        from engine.feed import tensor

        stride = network.stride
        halo = padded(network.radius, stride)
        z, y, x = (2 * (h + s) + s for h, s in zip(halo, stride, strict=True))
        outside = np.ones((z, y, x), bool)
        outside[tuple(slice(s, n - s) for s, n in zip(stride, (z, y, x), strict=True))] = False
        inside = tuple(slice(h + s, h + 2 * s) for h, s in zip(halo, stride, strict=True))
        found = []
        for shift in (0.0, 3.0):
            images = []
            for name in ("noisy", "prior")[: 1 + network.sees_prior]:
                image = draws.rng(0, "probe", name).random((z, y, x), np.float32)
                image[outside] += np.float32(shift)
                images.append(tensor(image))
            images += [tensor(image) for image in self._dose]
            estimate = self._model(images if len(images) > 1 else images[0], training=False)
            found.append(np.asarray(estimate, np.float32)[0, ..., 0][inside])
        return float(np.abs(found[1] - found[0]).max())

    def tiles(self, plan: Plan, noisy: Blocks, prior: Blocks | None) -> Iterator[tuple[Box, Unit]]:
        """The kept box of every tile and its estimate in window units."""
        from engine.feed import tensor

        for tile in plan.tiles():
            second = self._dose if prior is None else [prior(tile.read)]
            images = [tensor(image) for image in (noisy(tile.read), *second)]
            estimate = self._infer(images if second else images[0]).numpy()[0, ..., 0]
            yield tile.keep, estimate[tile.inner]

    def volume(self, plan: Plan, noisy: Blocks, prior: Blocks | None) -> Unit:
        """The whole estimate, (Z, Y, X) in window units."""
        whole = np.empty(plan.shape, np.float32)
        for box, estimate in self.tiles(plan, noisy, prior):
            whole[box.slices] = estimate
        return whole
