"""DnCNN: Zhang et al., IEEE Trans. Image Process. 26 (2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from engine.networks.layers import SLICE, Extent, Layers, dose, image

_MOST_LAYERS = 1000


@dataclass(frozen=True)
class DnCNN:
    """Learns the noise, slice by slice; 558,017 parameters with 17 layers of 64.

    A convolution with ReLU; depth - 2 convolutions, each with batch normalisation and ReLU; a last
    convolution whose output is subtracted from the input.

    Attributes:
        depth: number of convolutions.
        width: channels between the first and the last.
        normalised: whether the inner convolutions are followed by batch normalisation.
        bias: whether they have one. The normalisation's own shift makes it a variable without an
            effect, but published counts include it.
        sees_dose: whether it is told the photons of each scan, as a second channel.
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
        """The Keras model: (B, Z, Y, X, 1) noisy in window units -> the clean estimate.

        One that sees the dose takes [noisy, (B, 1, 1, 1, 1) dose].
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
        """How far along each axis an estimate depends on its input."""
        return (0, self.depth, self.depth)

    @property
    def bytes_per_voxel(self) -> int:
        """Memory of an inference in float32: input, convolution and normalised output."""
        return 4 * 3 * self.width
