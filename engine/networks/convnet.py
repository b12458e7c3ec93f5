"""ConvNets: plain stacks of convolutions at full resolution, 3D and 2D.

The networks without pooling that Abascal et al. (EUSIPCO 2020) set beside their U-Nets, and other
stacks of this kind: "same" convolutions with ReLU and a linear head that gives the clean image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from engine.networks.layers import POINT, SLICE, VOLUME, Extent, Layers, image


@dataclass(frozen=True)
class ConvNet3D:
    """3D ConvNet; 112,513 parameters with two layers of 64 and a 1x1x1 head.

    Attributes:
        widths: channels of the convolutions before the head.
        pointwise_head: whether the head is 1x1x1; otherwise its extent is that of the others.
    """

    widths: tuple[int, ...] = (64, 64)
    pointwise_head: bool = True

    kernel: ClassVar[Extent] = VOLUME
    sees_prior: ClassVar[bool] = False
    sees_dose: ClassVar[bool] = False
    stride: ClassVar[Extent] = (1, 1, 1)

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"network.widths must be positive numbers, not {self.widths}")

    def build(self, *, precision: str = "float32", seed: int = 0) -> Any:
        """The Keras model: (B, Z, Y, X, 1) noisy in window units -> the clean estimate."""
        import keras

        x = noisy = image("noisy")
        layers = Layers(self.kernel, precision, seed)
        for layer, width in enumerate(self.widths, 1):
            x = layers.convolution(x, width, f"convolution{layer}")
        extent = POINT if self.pointwise_head else self.kernel
        return keras.Model(noisy, layers.head(x, extent=extent))

    @property
    def radius(self) -> Extent:
        """How far along each axis an estimate depends on its input."""
        convolutions = len(self.widths) + (0 if self.pointwise_head else 1)
        z, y, x = (convolutions * (extent // 2) for extent in self.kernel)
        return z, y, x

    @property
    def bytes_per_voxel(self) -> int:
        """Memory of an inference in float32: a layer's input, convolution and ReLU."""
        return 4 * max(before + 2 * after for before, after in pairwise((1, *self.widths, 1)))


@dataclass(frozen=True)
class ConvNet2D(ConvNet3D):
    """2D ConvNet, slice by slice; 37,633 parameters with two layers of 64 and a 1x1 head."""

    kernel: ClassVar[Extent] = SLICE
