"""Residual U-Net: a deep, narrow 2D U-Net that estimates noise and artefacts.

The architecture is that of a study of low-dose and sparse-view CT (QIN Lung CT, slices of
512 x 512): max pooling, transposed convolutions, skips concatenated after the upsampled half, and
the output of the head subtracted from the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from engine.networks.layers import POINT, SLICE, Extent, Layers, dose, image
from engine.networks.unet import MOST_LEVELS, receptive_radius


@dataclass(frozen=True)
class ResidualUNet2D:
    """Residual U-Net, slice by slice; 487,921 parameters at width 8 with 5 levels.

    With normalisation, the first convolution has a bias and no normalisation, all others have batch
    normalisation and no bias, and the head is 3x3. Without normalisation, every convolution has a
    bias, the head is 1x1, and there are 485,673 parameters.

    Attributes:
        width: channels of the first level; each further level has twice as many.
        levels: number of resolutions, including the full one.
        normalised: whether convolutions are followed by batch normalisation.
        sees_dose: whether the dose of the scan is a second input channel.

    Example:
        >>> network = ResidualUNet2D(width=8, levels=5)
        >>> network.stride, network.radius
        ((1, 16, 16), (0, 108, 108))
    """

    width: int = 8
    levels: int = 5
    normalised: bool = True
    sees_dose: bool = False

    sees_prior: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.width < 1 or not 1 <= self.levels <= MOST_LEVELS:
            raise ValueError(
                f"network.width must be positive and network.levels lie in [1, {MOST_LEVELS}], "
                f"not {self.width} and {self.levels}"
            )

    def build(self, *, precision: str = "float32", seed: int = 0) -> Any:
        """The Keras model: (B, Z, Y, X, 1) noisy in window units -> estimate of the clean image.

        A dose-aware network takes [noisy, (B, 1, 1, 1, 1) dose].
        """
        import keras

        noisy = image("noisy")
        layers = Layers(SLICE, precision, seed)
        given = [noisy, dose()] if self.sees_dose else [noisy]
        seen = layers.with_dose(*given) if self.sees_dose else noisy
        x = layers.convolution(seen, self.width, "down1_a")
        x = self._convolution(layers, x, self.width, "down1_b")
        skips = []
        for level in range(2, self.levels + 1):
            skips.append(x)
            x = layers.pooled(x, f"pool{level - 1}")
            x = self._pair(layers, x, level, "down")
        for level in range(self.levels - 1, 0, -1):
            x = layers.transposed(x, self.width * 2 ** (level - 1), f"raise{level}")
            x = layers.joined([x, skips.pop()], f"skip{level}")
            x = self._pair(layers, x, level, "up")
        residual = layers.head(x, extent=self._head_extent)
        estimate = keras.layers.Subtract(dtype="float32", name="estimate")([noisy, residual])
        return keras.Model(given if self.sees_dose else noisy, estimate)

    @property
    def stride(self) -> Extent:
        """The shape of the network's input must be a multiple of it."""
        return (1, 2 ** (self.levels - 1), 2 ** (self.levels - 1))

    @property
    def radius(self) -> Extent:
        """The receptive radius in voxels, along (Z, Y, X)."""
        # Kernel size equal to the stride: the reach is that of nearest-neighbour upsampling.
        voxels = receptive_radius(self.levels) + self._head_extent[-1] // 2
        return (0, voxels, voxels)

    @property
    def bytes_per_voxel(self) -> int:
        """Memory of inference in float32: the peak holds skip, concatenation and output."""
        return 4 * 5 * self.width

    @property
    def _head_extent(self) -> Extent:
        return SLICE if self.normalised else POINT

    def _pair(self, layers: Layers, x: Any, level: int, way: str) -> Any:
        for half in "ab":
            x = self._convolution(layers, x, self.width * 2 ** (level - 1), f"{way}{level}_{half}")
        return x

    def _convolution(self, layers: Layers, x: Any, width: int, name: str) -> Any:
        if not self.normalised:
            return layers.convolution(x, width, name)
        x = layers.convolution(x, width, name, relu=False, bias=False)
        return layers.normalised(x, f"{name}_normalisation")
