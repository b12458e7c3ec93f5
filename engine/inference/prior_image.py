"""The prior image of a volume, block by block."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np

from engine.inference.tiling import Blocks
from engine.runs.prior_network import opened
from volumes.boxes import Box, reflected
from volumes.sampling.prior_sources import Noisy, Source
from volumes.sampling.priors import NeighbourMean
from volumes.volume import Shape, Unit

_SLICES = 256  # of a source that are kept: neighbouring tiles ask for the same ones


@cache
def _graph(source: Source) -> Any:
    """A source as a graph, traced once a shape for all volumes; it needs shapes that are known."""
    import tensorflow as tf

    return tf.function(source.image)


def prior_image(
    prior: NeighbourMean, noisy: Blocks, shape: Shape, sigma: float, spacing_z_mm: float,
    clean: Blocks | None = None,
) -> Blocks:  # fmt: skip
    """Blocks of the prior of a volume.

    Args:
        prior: of the recipe; the network of an estimate is loaded.
        noisy: blocks of the noisy volume.
        shape: (Z, Y, X) of the volume.
        sigma: standard deviation of its noise in window units.
        spacing_z_mm: distance of its slices.
        clean: blocks of the clean volume, where it is known.

    Raises:
        Mismatch: where the network of an estimate cannot be used.
    """
    source = source_blocks(opened(prior.of), noisy, shape, sigma, clean)
    return prior_blocks(prior, source, shape[0], spacing_z_mm)


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
    from engine.inference.predictor import tensor

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
