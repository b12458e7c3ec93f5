"""ResNet: He et al., CVPR 2016, without its pooling.

Widths and depth as in the comparison of Abascal et al. (EUSIPCO 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from engine.networks.layers import SLICE, Extent, Layers, image


@dataclass(frozen=True)
class ResNet2D:
    """Residual units at full resolution, slice by slice; 337,376 parameters with these widths.

    A convolution, batch normalisation and ReLU; the units; a 1x1 head that gives the clean image.
    A unit is two convolutions, each with batch normalisation and the first with ReLU, whose output
    is added to the unit's input before a last ReLU. Where a unit changes the width, its input
    passes a 1x1 convolution and batch normalisation. No convolution has a bias.

    Attributes:
        widths: channels of the units; the convolution before them has those of the first.
    """

    widths: tuple[int, ...] = (32, 32, 32, 64, 64, 64, 64)

    sees_prior: ClassVar[bool] = False
    sees_dose: ClassVar[bool] = False
    stride: ClassVar[Extent] = (1, 1, 1)

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"network.widths must be positive numbers, not {self.widths}")

    def build(self, *, precision: str = "float32", seed: int = 0) -> Any:
        """The Keras model: (B, Z, Y, X, 1) noisy in window units -> the clean estimate."""
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
        """How far along each axis an estimate depends on its input."""
        convolutions = 1 + 2 * len(self.widths)
        return (0, convolutions, convolutions)

    @property
    def bytes_per_voxel(self) -> int:
        """Memory of an inference in float32: shortcut, input, convolution, normalised output."""
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
