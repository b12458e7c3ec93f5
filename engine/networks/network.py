"""Network: what a recipe asks of an architecture."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

from engine.networks.layers import Extent


class Network(Protocol):
    """An architecture: a frozen dataclass whose fields are its parameters.

    A class of your own may inherit from this one, or from a network of the engine. It must then
    have `build`, `stride` and `radius`, and may leave out the others.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Smoothing(Network):
        ...     stride = (1, 1, 1)
        ...     radius = (0, 1, 1)
        ...
        ...     def build(self, *, precision="float32", seed=0):
        ...         import keras
        ...
        ...         noisy = keras.Input((None, None, None, 1))
        ...         layer = keras.layers.Conv3D(1, (1, 3, 3), padding="same", name="smooth")
        ...         return keras.Model(noisy, layer(noisy))
        >>> Smoothing().sees_prior, Smoothing().bytes_per_voxel
        (False, 1280)
    """

    @abstractmethod
    def build(self, *, precision: str = "float32", seed: int = 0) -> Any:
        """The Keras model.

        Its inputs are (B, Z, Y, X, 1) float32 tensors in window units, of any shape that is a
        multiple of `stride`: noisy, or [noisy, prior] if it sees a prior, or [noisy, dose] with a
        dose of (B, 1, 1, 1, 1). Its output is the estimate of the clean image, float32. Layers have
        names, and the initial weights depend on `seed` alone.

        Args:
            precision: of the inner layers: float32, bfloat16 or float16.
            seed: of the initial weights.
        """

    @property
    @abstractmethod
    def stride(self) -> Extent:
        """The shape (Z, Y, X) of the network's input must be a multiple of it."""

    @property
    @abstractmethod
    def radius(self) -> Extent:
        """The receptive radius (Z, Y, X) in voxels: tiles overlap by it."""

    @property
    def sees_prior(self) -> bool:
        """Whether the prior is a second input."""
        return False

    @property
    def sees_dose(self) -> bool:
        """Whether the dose is a second input."""
        return False

    @property
    def bytes_per_voxel(self) -> int:
        """Memory of inference in float32, as of a U-Net whose first level has 64 channels."""
        return 4 * 5 * 64
