"""ConvNets: stacks of convolutions at full resolution, 3D and 2D.

Abascal et al. (EUSIPCO 2020) compare such networks without pooling with their U-Nets: "same"
convolutions with ReLU, and a linear head that estimates the clean image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from engine.networks.layers import POINT, SLICE, STREAM_BYTES, VOLUME, Extent, Layers, image


@dataclass(frozen=True)
class ConvNet3D:
    """3D ConvNet; 112,513 parameters with two layers of 64 and a 1x1x1 head.

    Attributes:
        widths: channels of the convolutions before the head.
        pointwise_head: whether the head is 1x1x1. Otherwise it has the extent of the others.

    Example:
        >>> ConvNet3D(widths=(64, 64)).radius, ConvNet3D(pointwise_head=False).radius
        ((2, 2, 2), (3, 3, 3))
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
        """The Keras model: (B, Z, Y, X, 1) noisy in window units -> estimate of the clean image."""
        import keras

        x = noisy = image("noisy")
        layers = Layers(self.kernel, precision, seed)
        for layer, width in enumerate(self.widths, 1):
            x = layers.convolution(x, width, f"convolution{layer}")
        extent = POINT if self.pointwise_head else self.kernel
        return keras.Model(noisy, layers.head(x, extent=extent))

    @property
    def radius(self) -> Extent:
        """The receptive radius in voxels, along (Z, Y, X)."""
        convolutions = len(self.widths) + (0 if self.pointwise_head else 1)
        z, y, x = (convolutions * (extent // 2) for extent in self.kernel)
        return z, y, x

    @property
    def bytes_per_voxel(self) -> int:
        """Memory of inference in float32: input, convolution and ReLU of a layer."""
        return 4 * max(before + 2 * after for before, after in pairwise((1, *self.widths, 1)))

    def streamed_bytes(self, pixels: int, step: int) -> int:
        """Memory of a stream in float32, `step` slices of so many pixels at a time.

        Each convolution keeps two slices of its input. The peak is at the widest, with a copy of
        its window and its output.
        """
        kept = 2 * sum(self.widths)
        widest = max(
            (step + 2) * before + step * after for before, after in pairwise((1, *self.widths, 1))
        )
        return STREAM_BYTES + int(1.35 * 4 * pixels * (kept + widest))


@dataclass(frozen=True)
class ConvNet2D(ConvNet3D):
    """2D ConvNet, slice by slice; 37,633 parameters with two layers of 64 and a 1x1 head.

    Example:
        >>> ConvNet2D(widths=(64, 64)).radius
        (0, 2, 2)
    """

    kernel: ClassVar[Extent] = SLICE
