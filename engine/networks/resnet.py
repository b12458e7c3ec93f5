"""ResNet: residual units at full resolution.

He et al., CVPR 2016, without pooling. Widths and depth are those in the comparison of Abascal et
al. (EUSIPCO 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from engine.networks.layers import SLICE, Extent, Layers, image


@dataclass(frozen=True)
class ResNet2D:
    """2D ResNet, slice by slice; 337,376 parameters with the default widths.

    It consists of a convolution with batch normalisation and ReLU, the residual units, and a 1x1
    head that estimates the clean image. A unit has two convolutions with batch normalisation, the
    first also with ReLU. Their output is added to the input of the unit before a last ReLU. If a
    unit changes the width, its input passes a 1x1 convolution and batch normalisation. No
    convolution has a bias.

    Attributes:
        widths: channels of the units. The first convolution has the width of the first unit.

    Example:
        >>> ResNet2D(widths=(32, 32, 32, 64, 64, 64, 64)).radius
        (0, 15, 15)
    """

    widths: tuple[int, ...] = (32, 32, 32, 64, 64, 64, 64)

    sees_prior: ClassVar[bool] = False
    sees_dose: ClassVar[bool] = False
    stride: ClassVar[Extent] = (1, 1, 1)

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"network.widths must be positive numbers, not {self.widths}")

    def build(self, *, precision: str = "float32", seed: int = 0) -> Any:
        """The Keras model: (B, Z, Y, X, 1) noisy in window units -> estimate of the clean image."""
        import keras

        noisy = image("noisy")
        layers = Layers(SLICE, precision, seed)
        x = layers.convolution(noisy, self.widths[0], "entrance", relu=False, bias=False)
        x = layers.normalised(x, "entrance_normalisation")
        for unit, width in enumerate(self.widths, 1):
            x = _unit(layers, x, width, f"unit{unit}")
        return keras.Model(noisy, layers.head(x, bias=False))

    @property
    def radius(self) -> Extent:
        """The receptive radius in voxels, along (Z, Y, X)."""
        convolutions = 1 + 2 * len(self.widths)
        return (0, convolutions, convolutions)

    @property
    def bytes_per_voxel(self) -> int:
        """Memory of inference in float32: shortcut, input, convolution, normalised output."""
        return 4 * 4 * max(self.widths)


def _unit(layers: Layers, x: Any, width: int, name: str) -> Any:
    shortcut = x
    if x.shape[-1] != width:
        shortcut = layers.projection(x, width, f"{name}_shortcut")
        shortcut = layers.normalised(shortcut, f"{name}_shortcut_normalisation", relu=False)
    x = layers.convolution(x, width, f"{name}_a", relu=False, bias=False)
    x = layers.normalised(x, f"{name}_a_normalisation")
    x = layers.convolution(x, width, f"{name}_b", relu=False, bias=False)
    x = layers.normalised(x, f"{name}_b_normalisation", relu=False)
    return layers.added(x, shortcut, f"{name}_sum")
