"""The prior image of a volume, block by block."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np

from engine.inference.tiling import Blocks
from engine.runs.prior_network import loaded_source
from volumes.boxes import Box, reflected
from volumes.sampling.prior_sources import Source
from volumes.sampling.priors import NeighbourMean
from volumes.volume import Shape, Unit

_SLICES = 256  # cached slices of a source: neighbouring tiles need the same ones


@cache
def _graph(source: Source) -> Any:
    """The graph of a source, traced once per shape. It needs static shapes."""
    import tensorflow as tf

    return tf.function(source.image)


def prior_image(
    prior: NeighbourMean, noisy: Blocks, shape: Shape, sigma: float, spacing_z_mm: float,
    clean: Blocks | None = None,
) -> Blocks:  # fmt: skip
    """Blocks of the prior of a volume.

    Args:
        prior: of the recipe. If it is the estimate of a network, the network is loaded.
        noisy: blocks of the noisy volume.
        shape: (Z, Y, X) of the volume.
        sigma: standard deviation of its noise in window units.
        spacing_z_mm: distance between slices.
        clean: blocks of the clean volume, if known.

    Raises:
        Mismatch: if the network of an estimate cannot be used.
    """
    source = source_blocks(loaded_source(prior.of), noisy, shape, sigma, clean)
    return prior_blocks(prior, source, shape[0], spacing_z_mm)


def source_blocks(
    source: Source, noisy: Blocks, shape: Shape, sigma: float, clean: Blocks | None = None
) -> Blocks:
    """Blocks of a prior's source, computed from whole slices, so that tiles agree.

    Args:
        source: the prior's source, its network loaded.
        noisy: blocks of the noisy volume.
        shape: (Z, Y, X) of the volume.
        sigma: standard deviation of its noise in window units.
        clean: blocks of the clean volume, if known.
    """
    if source.is_noisy:
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
    """Blocks of the prior of a noisy volume, from blocks of its source.

    Beyond the last slice the prior is reflected like the noisy volume. Padding never counts as a
    neighbour.
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
