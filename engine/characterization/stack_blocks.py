"""Blocks of a stack: splits, resamples and errors for images whose neighbours share noise.

A 3D network, or a method with a prior, sees the realisations as the slices of a scan. If an
estimate depends on `reach` slices on each side, two estimates share noise up to a distance of twice
the reach. The variance of a mean then is a sum of autocovariances up to that distance. Resamples
consist of blocks of consecutive images (Künsch, Annals of Statistics 17, 1989), which are three
times as long: they lose a ninth of the variance of a running mean. Without a reach, images are
independent.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_LENGTHS = 3  # of shared noise in a block

Array = npt.NDArray[Any]


def shared_length(reach: int) -> int:
    """Number of consecutive images after which one shares no noise with the first."""
    return 2 * reach + 1


def block_length(reach: int) -> int:
    """Number of consecutive images of a block of a resample."""
    return _LENGTHS * shared_length(reach) if reach else 1


def standard_error(values: Array, reach: int) -> float:
    """The standard error of the mean over images, root mean square over pixels.

    Autocovariances are summed up to the distance at which images share no noise. The sum has no
    bias: the deviations are those from the mean of the same images, which takes a share that is
    given back. It is no less than if all images were independent, so it is positive.

    Args:
        values: (N, ...) of every image.
        reach: number of slices on each side that an image depends on.

    Returns:
        NaN if there are fewer than two images, or than two lengths of shared noise.
    """
    count, lags = len(values), 2 * reach
    if count <= 2 * lags + 1:
        return math.nan
    alone = float(np.sqrt(np.mean(values.var(axis=0, ddof=1, dtype=np.float64)))) / math.sqrt(count)
    if not reach:
        return alone
    left = np.asarray(values, np.float64) - values.mean(axis=0, dtype=np.float64)
    total = np.sum(left**2)
    for lag in range(1, lags + 1):
        total += 2 * np.sum(left[lag:] * left[:-lag])
    taken = (2 * lags + 1 - lags * (lags + 1) / count) / count
    summed = float(total) / left[0].size / count**2 / (1 - taken)
    return max(math.sqrt(max(summed, 0.0)), alone)


def student_quantile(count: int, reach: int) -> float:
    """The half width of a 95 % interval of a mean over images in standard errors: Student's t.

    Its degrees of freedom are 1 less than the number of images, or of lengths of shared noise.

    Example:
        >>> [round(student_quantile(200, reach), 2) for reach in (0, 4)]
        [1.97, 2.08]
    """
    from scipy.stats import t

    return float(t.ppf(0.975, max(count // shared_length(reach) - 1, 1)))


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
