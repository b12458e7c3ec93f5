"""DnCNN: a 2D network that estimates the noise.

Zhang et al., IEEE Trans. Image Process. 26 (2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from engine.networks.layers import SLICE, Extent, Layers, dose, image

_MOST_LAYERS = 1000


@dataclass(frozen=True)
class DnCNN:
    """DnCNN, slice by slice; 558,017 parameters with 17 layers of 64.

    The layers are a convolution with ReLU; depth - 2 convolutions, each with batch normalisation
    and ReLU; and a last convolution whose output, the noise, is subtracted from the input.

    Attributes:
        depth: number of convolutions.
        width: channels between the first and the last convolution.
        normalised: whether the inner convolutions are followed by batch normalisation.
        bias: whether the inner convolutions have a bias. With batch normalisation it has no effect,
            but published parameter counts include it.
        sees_dose: whether the dose of the scan is a second input channel.

    Example:
        >>> DnCNN(depth=17, width=64).radius
        (0, 17, 17)
    """

    depth: int = 17
    width: int = 64
    normalised: bool = True
    bias: bool = False
    sees_dose: bool = False

    sees_prior: ClassVar[bool] = False
    stride: ClassVar[Extent] = (1, 1, 1)

    def __post_init__(self) -> None:
        if not 2 <= self.depth <= _MOST_LAYERS or self.width < 1:
            raise ValueError(
                f"network.depth must lie in [2, {_MOST_LAYERS}] and network.width be positive, not "
                f"{self.depth} and {self.width}"
            )
        if not (self.normalised or self.bias):
            raise ValueError("network.bias must be true where network.normalised is false")

    def build(self, *, precision: str = "float32", seed: int = 0) -> Any:
        """The Keras model: (B, Z, Y, X, 1) noisy in window units -> estimate of the clean image.

        A dose-aware network takes [noisy, (B, 1, 1, 1, 1) dose].
        """
        import keras

        noisy = image("noisy")
        layers = Layers(SLICE, precision, seed)
        given = [noisy, dose()] if self.sees_dose else [noisy]
        seen = layers.with_dose(*given) if self.sees_dose else noisy
        x = layers.convolution(seen, self.width, "convolution1")
        for layer in range(2, self.depth):
            relu = not self.normalised
            x = layers.convolution(x, self.width, f"convolution{layer}", relu=relu, bias=self.bias)
            if self.normalised:
                x = layers.normalised(x, f"normalisation{layer}")
        noise = layers.head(x, extent=SLICE)
        estimate = keras.layers.Subtract(dtype="float32", name="estimate")([noisy, noise])
        return keras.Model(given if self.sees_dose else noisy, estimate)

    @property
    def radius(self) -> Extent:
        """The receptive radius in voxels, along (Z, Y, X)."""
        return (0, self.depth, self.depth)

    @property
    def bytes_per_voxel(self) -> int:
        """Memory of inference in float32: input, convolution and normalised output."""
        return 4 * 3 * self.width
