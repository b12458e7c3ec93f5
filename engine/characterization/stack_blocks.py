"""Blocks of a stack: splits, resamples and errors for images whose neighbours share noise.

A 3D network, or a method with a prior, sees the realisations as the slices of a scan. If an
estimate depends on `reach` slices on each side, two estimates share noise up to a distance of twice
the reach. Blocks of consecutive images then take the place of images (Künsch, Annals of Statistics
17, 1989). Without a reach, every image is a block.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def block_length(reach: int) -> int:
    """Number of consecutive images of a block."""
    return 2 * reach + 1


def block_means(values: Array, reach: int) -> Array:
    """(blocks, ...) means over consecutive images; the images themselves without a reach.

    Args:
        values: (N, ...) of every image.
        reach: number of slices on each side that an image depends on.
    """
    if not reach:
        return values
    blocks = np.array_split(values, max(len(values) // block_length(reach), 2))
    return np.stack([block.mean(axis=0, dtype=np.float64) for block in blocks])


def standard_error(values: Array, reach: int) -> float:
    """The standard error of the mean of (N,) values; NaN for a single one."""
    means = block_means(values, reach)
    if len(means) < 2:
        return math.nan
    return float(means.std(ddof=1)) / math.sqrt(len(means))


def halves(count: int, rng: np.random.Generator, reach: int) -> tuple[Array, Array]:
    """Indices of two random halves; no image of one shares noise with an image of the other.

    With a reach, the stack is cut at a random place and half a stack further on. The end of the
    stack is no neighbour of its begin. `reach` images on each side of a cut are in neither half.
    """
    if not reach:
        order = rng.permutation(count)
        return order[: count // 2], order[count // 2 :]
    images = np.arange(count)
    first = (images - rng.integers(count)) % count < count // 2
    cuts = np.flatnonzero(np.diff(first)) + 0.5
    kept = (np.abs(images[:, None] - cuts) > reach).all(axis=1)
    return images[first & kept], images[~first & kept]


def resamples(count: int, number: int, rng: np.random.Generator, reach: int) -> Array:
    """(number, count) how often each image is in each resample of consecutive blocks."""
    length = block_length(reach)
    begins = rng.multinomial(round(count / length), np.full(count, 1 / count), size=number)
    # A block at the end continues at the begin of the stack, so that all images weigh the same.
    rolled = [np.roll(begins, offset, axis=1) for offset in range(length)]
    return np.asarray(np.sum(rolled, axis=0), np.float64)
