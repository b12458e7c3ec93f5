"""Channelised Hotelling observer: how well a known signal is detected in images.

It is trained and tested on images with and without the signal, which assumes nothing of the system.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.characterization.stack_blocks import (
    block_length,
    halves,
    resamples,
    shared_length,
)
from volumes import random_draws

CHANNELS = 5
READERS = 10  # random splits of the images into halves for training and for testing
_LEAST_IN_HALF = 4  # images of a kind that share no noise
_LEAST_BLOCKS = 7  # of a kind that are resampled
_RESAMPLES = 500  # of the images
_CHANNEL_OF_DIAMETER = 2 / 3  # width of the Gaussian in LCD-CT

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Detectability:
    """How well the channelised Hotelling observer detects a signal.

    Attributes:
        auc: area under the ROC curve on images that it was not trained on, mean over readers. The
            fewer images it is trained on, the lower it is.
        resubstituted_auc: that on the images that it was trained on. The fewer these are, the
            higher it is: the observer that knows the statistics lies between both.
        d_prime: (mean with - mean without signal) / root mean variance of the test scores.
        auc_samples, d_samples: (resamples,) values, for intervals. Observers of one `key` share
            images, splits and resamples, so their samples are paired.
    """

    auc: float
    resubstituted_auc: float
    d_prime: float
    auc_samples: Array
    d_samples: Array

    @property
    def auc_interval(self) -> tuple[float, float]:
        """95 % interval over resampled images, the mean of the readers each time."""
        return percentiles(self.auc_samples)

    @property
    def d_interval(self) -> tuple[float, float]:
        """95 % interval over resampled images, the mean of the readers each time."""
        return percentiles(self.d_samples)


def percentiles(samples: Array) -> tuple[float, float]:
    """The central 95 % of samples."""
    low, high = np.percentile(samples, (2.5, 97.5))
    return float(low), float(high)


def laguerre_gauss(side: int, pixel_mm: float, diameter_mm: float) -> Array:
    """(side^2, 5) Laguerre-Gauss channels about the middle of a square region.

    sqrt(2) / h exp(-pi r^2 / h^2) L_j(2 pi r^2 / h^2), j = 0 to 4, as in LCD-CT of the FDA (CC0),
    with h two thirds of the diameter. Their mean over the region is removed, so that the observer
    does not see the mean of a region, as LCD-CT removes it from the images.

    Args:
        side: of the region in pixels.
        pixel_mm: width of the pixels.
        diameter_mm: of the signal.
    """
    from scipy.special import eval_laguerre

    at = (np.arange(side) - (side - 1) / 2) * pixel_mm
    width = _CHANNEL_OF_DIAMETER * diameter_mm
    x = np.pi * (at[:, None] ** 2 + at**2).ravel() / width**2
    found = [math.sqrt(2) / width * eval_laguerre(j, 2 * x) * np.exp(-x) for j in range(CHANNELS)]
    channels = np.stack(found, axis=1)
    return np.asarray(channels - channels.mean(axis=0))


def channel_outputs(regions_hu: npt.NDArray[Any], channels: Array) -> Array:
    """(N, channels) outputs of the channels for regions (N, side, side)."""
    return np.asarray(regions_hu.reshape(len(regions_hu), -1) @ channels, np.float64)


def least_images(reach: int) -> int:
    """The fewest images of a kind that the Hotelling observer can be trained and tested on.

    After the gaps, each half has as many images as 4 that share no noise. There are 7 blocks to
    resample.

    Args:
        reach: number of slices on each side that an image depends on.

    Example:
        >>> [least_images(reach) for reach in (0, 1, 4)]
        [8, 63, 189]
    """
    trained = 2 * (_LEAST_IN_HALF * shared_length(reach) + 2 * reach)
    return max(trained, _LEAST_BLOCKS * block_length(reach))


def hotelling(
    present: Array, absent: Array, seed: int, *key: int | str, reach: int = 0
) -> Detectability:
    """Detectability by the Hotelling observer in channel space.

    Each of 10 readers is trained on a random half of the images with signal and a half of those
    without, w = S^-1 (mean with - mean without) with S the mean covariance, and tested on the
    others. Results are means over readers. Intervals: the images are resampled with replacement 500
    times, with the same weights for all readers; the readers are not trained again.

    If neighbours share noise, halves and resamples consist of consecutive images, see `halves` and
    `resamples`. The readers then are trained again on every resample: few blocks train a reader,
    and most of its scatter comes from there.

    Args:
        present: (N, channels) outputs for images with the signal, N >= `least_images(reach)`.
        absent: (M, channels) outputs for images without it, M as N.
        seed: of splits and resamples.
        key: of splits and resamples; the same for methods whose results are paired.
        reach: number of slices on each side that an image depends on; the largest of methods whose
            results are paired.

    Raises:
        ValueError: if there are fewer images of a kind: 4 for training have no covariance.
    """
    least = least_images(reach)
    if min(len(present), len(absent)) < least:
        cause = f"needs {least} images with and {least} without the signal"
        raise ValueError(f"the Hotelling observer {cause}")
    rng = random_draws.rng(seed, "readers of images", *key)
    drawn = [resamples(len(outputs), _RESAMPLES, rng, reach) for outputs in (present, absent)]
    readers = [_Reader.trained(present, absent, drawn, rng, reach) for _ in range(READERS)]
    plain = [(reader.auc, reader.resubstituted_auc, reader.d_prime) for reader in readers]
    auc, seen, d_prime = (float(value) for value in np.mean(plain, axis=0))
    samples = (
        _samples_of_blocks(readers, auc, d_prime, reach)
        if reach
        else _samples_of_images(readers, d_prime)
    )
    return Detectability(auc, seen, d_prime, *samples)


@dataclass(frozen=True, eq=False)
class _Kind:
    """Images of one kind, with or without the signal, as one reader has them.

    Attributes:
        outputs: (N, channels) of the channels.
        train, test: indices of the images.
        weights: (resamples, N) how often each image is in each resample.
        scores: (N,) of the reader.
    """

    outputs: Array
    train: Indices
    test: Indices
    weights: Array
    scores: Array


@dataclass(frozen=True, eq=False)
class _Reader:
    """An observer that is trained on a half of the images and tested on the other.

    Attributes:
        present, absent: the images.
        auc, d_prime: of the test, without resampling.
        resubstituted_auc: of the training.
    """

    present: _Kind
    absent: _Kind
    auc: float
    d_prime: float
    resubstituted_auc: float

    @classmethod
    def trained(
        cls, present: Array, absent: Array, drawn: Sequence[Array], rng: np.random.Generator,
        reach: int,
    ) -> _Reader:  # fmt: skip
        """The reader of a random split into halves."""
        splits = [halves(len(outputs), rng, reach) for outputs in (present, absent)]
        template = _template(present[splits[0][0]], absent[splits[1][0]])
        with_signal, without = (
            _Kind(outputs, *split, weights, outputs @ template)
            for outputs, split, weights in zip((present, absent), splits, drawn, strict=True)
        )
        scores = with_signal.scores[with_signal.test], without.scores[without.test]
        tested = _read(*scores, *(np.ones((1, len(one))) for one in scores))
        seen = area_under_roc(with_signal.scores[with_signal.train], without.scores[without.train])
        return cls(with_signal, without, float(tested[0, 0]), float(tested[1, 0]), seen)


def _samples_of_images(readers: Sequence[_Reader], d_prime: float) -> tuple[Array, Array]:
    """Resampled AUC and d' for independent images: readers are tested again."""
    tested = [
        _read(*(kind.scores[kind.test] for kind in kinds),
              *(kind.weights[:, kind.test] for kind in kinds))
        for kinds in ((reader.present, reader.absent) for reader in readers)
    ]  # fmt: skip
    auc_samples, d_samples = np.mean(tested, axis=0)
    # Images that are drawn twice make the variance of a resample too small, and its d' too large.
    return auc_samples, d_samples - d_samples.mean() + d_prime


def _samples_of_blocks(
    readers: Sequence[_Reader], auc: float, d_prime: float, reach: int
) -> tuple[Array, Array]:
    """Resampled AUC and d' for images that share noise: readers are trained and tested again."""
    tested = [_trained_again(reader, max(2, reach)) for reader in readers]
    auc_samples, d_samples = np.mean(tested, axis=0)
    # Images that are drawn twice also train a reader worse.
    auc_samples = np.clip(auc_samples - auc_samples.mean() + auc, 0, 1)
    return auc_samples, d_samples - d_samples.mean() + d_prime


def _template(present: Array, absent: Array) -> Array:
    covariance = (np.cov(present, rowvar=False) + np.cov(absent, rowvar=False)) / 2
    difference = present.mean(axis=0) - absent.mean(axis=0)
    # Few images may span fewer dimensions than there are channels.
    return np.asarray(np.linalg.pinv(covariance, hermitian=True) @ difference)


def _trained_again(reader: _Reader, few: int) -> Array:
    """(2, resamples) AUC and d' of a reader that is trained and tested on each resample.

    Args:
        reader: its images, and its AUC and d' for resamples with too small a half: they are rare.
        few: different images in a half of a resample that do not train or test a reader.
    """
    found = np.repeat([[reader.auc], [reader.d_prime]], _RESAMPLES, axis=1)
    kinds = (reader.present, reader.absent)
    for i in range(_RESAMPLES):
        drawn = [
            [half[kind.weights[i, half] > 0] for half in (kind.train, kind.test)] for kind in kinds
        ]
        if min(len(half) for pair in drawn for half in pair) <= few:
            continue
        (p_train, p_test), (a_train, a_test) = (
            [kind.outputs[np.repeat(half, kind.weights[i, half].astype(int))] for half in pair]
            for kind, pair in zip(kinds, drawn, strict=True)
        )
        template = _template(p_train, a_train)
        one, other = p_test @ template, a_test @ template
        spread = math.sqrt(max((one.var(ddof=1) + other.var(ddof=1)) / 2, 1e-300))
        found[:, i] = area_under_roc(one, other), (one.mean() - other.mean()) / spread
    return found


def _read(present: Array, absent: Array, present_weights: Array, absent_weights: Array) -> Array:
    """(2, resamples) AUC and d' of test scores, with the weights of each resample."""
    above = (present[:, None] > absent) + 0.5 * (present[:, None] == absent)
    total = [np.maximum(weights.sum(axis=1), 1.0) for weights in (present_weights, absent_weights)]
    auc = np.einsum("rp,pa,ra->r", present_weights, above, absent_weights, optimize=True)
    means, variances = [], []
    pairs = ((present, present_weights), (absent, absent_weights))
    for (scores, weights), count in zip(pairs, total, strict=True):
        mean = weights @ scores / count
        means.append(mean)
        square = weights @ scores**2 / count - mean**2
        variances.append(square * count / np.maximum(count - 1, 1.0))
    spread = np.sqrt(np.maximum(sum(variances) / 2, 1e-300))
    return np.stack([auc / (total[0] * total[1]), (means[0] - means[1]) / spread])


def area_under_roc(present: Array, absent: Array) -> float:
    """The share of pairs in which the image with the signal scores higher; a tie counts half.

    Example:
        >>> area_under_roc(np.array([1.0, 2.0]), np.array([0.0, 1.0]))
        0.875
    """
    order = np.sort(absent)
    below = np.searchsorted(order, present, side="left")
    at_most = np.searchsorted(order, present, side="right")
    return float((below + at_most).sum() / (2 * len(present) * len(absent)))
