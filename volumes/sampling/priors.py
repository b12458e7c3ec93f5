"""Priors: the second input image of a network, beside the noisy one.

A prior is computed from the noisy volume, never from the clean one. The one exception is the oracle
`volumes.sampling.prior_sources.Clean`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.sampling.prior_sources import Noisy, Source
from volumes.volume import Unit

_MOST_SLICES = 128  # on each side: anatomy changes within fewer slices


@dataclass(frozen=True)
class NeighbourMean:
    """Weighted mean of the neighbouring slices: w(k) = exp(-decay |k| - decay_per_mm |k| dz).

    The prior image of Abascal et al., EUSIPCO 2020, with the window centred on its slice (their
    code centres it one slice too early) and renormalised at the ends of the volume.

    Attributes:
        radius: slices on each side; 0 for the slice of the source itself.
        decay: of the weight per slice.
        decay_per_mm: of the weight per millimetre, for data sets of mixed slice spacing.
        of: the image whose slices are averaged.

    Example:
        >>> prior = NeighbourMean(radius=1, decay=0.0)
        >>> prior.weights(first=0, length=2, depth=2, spacing_z_mm=3.0).tolist()
        [[0.0, 0.5, 0.5, 0.0], [0.0, 0.5, 0.5, 0.0]]
    """

    radius: int = 4
    decay: float = 0.04
    decay_per_mm: float = 0.0
    of: Source = field(default_factory=Noisy)

    def __post_init__(self) -> None:
        if not 0 <= self.radius <= _MOST_SLICES:
            raise ValueError(f"prior.radius must lie in [0, {_MOST_SLICES}], not {self.radius}")
        if not (0 <= self.decay < math.inf and 0 <= self.decay_per_mm < math.inf):
            raise ValueError("prior.decay and prior.decay_per_mm must be finite and not negative")

    @property
    def halo(self) -> int:
        """Number of slices above and below that the prior of a slice needs."""
        return self.radius

    def weights(
        self, first: int, length: int, depth: int, spacing_z_mm: float
    ) -> npt.NDArray[np.float32]:
        """(length, length + 2 halo), read-only: row i makes the prior of slice `first + i`.

        Columns are the slices from `first - halo` on. Those outside [0, depth) have weight 0, so
        the prior of a crop equals the prior of the whole volume.

        Args:
            first: index of the first slice in its volume; may be negative.
            length: number of slices.
            depth: number of slices of the volume, padded ones included.
            spacing_z_mm: distance of neighbouring slices.
        """
        if self.radius <= first <= depth - length - self.radius:  # far from both ends
            first, depth = self.radius, length + 2 * self.radius
        decay = self.decay + self.decay_per_mm * spacing_z_mm
        return _weights(self.radius, decay, first, length, depth)

    def of_slab(self, slab: Unit, first: int, depth: int, spacing_z_mm: float) -> Unit:
        """(Z, Y, X) prior of the slices from `first` on, on the host.

        Slices are added one after the other, so that the prior of a block is bitwise equal to that
        of the whole volume. A matrix product does not guarantee this.

        Args:
            slab: (Z + 2 halo, Y, X), the source with its halo.
            first: index of the first slice in its volume; may be negative.
            depth: number of slices of the volume, padded ones included.
            spacing_z_mm: distance of neighbouring slices.
        """
        length = slab.shape[0] - 2 * self.radius
        decay = self.decay + self.decay_per_mm * spacing_z_mm
        band = _band(self.radius, decay, first, length, depth)[..., None, None]
        prior = np.zeros((length, *slab.shape[1:]), np.float32)
        for offset in range(band.shape[1]):
            prior += band[:, offset] * slab[offset : offset + length]
        return prior


@lru_cache(maxsize=256)
def _weights(
    radius: int, decay: float, first: int, length: int, depth: int
) -> npt.NDArray[np.float32]:
    """See `NeighbourMean.weights`. They are kept: nearly all crops have those of a few places."""
    band = _band(radius, decay, first, length, depth)
    row, offset = np.ogrid[:length, : band.shape[1]]
    weights = np.zeros((length, length + 2 * radius), np.float32)
    weights[row, row + offset] = band
    weights.setflags(write=False)
    return weights


def _band(
    radius: int, decay: float, first: int, length: int, depth: int
) -> npt.NDArray[np.float32]:
    """(length, 2 radius + 1) weights of the slices around each slice."""
    distance = np.arange(-radius, radius + 1)
    weight = np.exp(-decay * np.abs(distance))
    slice_ = first + np.arange(length)[:, None] + distance
    weight = weight * ((slice_ >= 0) & (slice_ < depth))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), np.float32)


def weighted_slices(weights: Any, slices: Any) -> Any:
    """Applies `NeighbourMean.weights` on the accelerator.

    Args:
        weights: (B, Z, Z + 2 halo) tensor.
        slices: (B, Z + 2 halo, Y, X, C) tensor, the source with its halo.

    Returns:
        (B, Z, Y, X, C): the prior.
    """
    import tensorflow as tf

    return tf.einsum("bzk,bkyxc->bzyxc", weights, slices)
