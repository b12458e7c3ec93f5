"""U-Nets: 3D, 2D, and the ResPr-UNet with a prior image.

Ronneberger et al., MICCAI 2015, with the widths and depths of Abascal et al. (EUSIPCO 2020): max
pooling, nearest-neighbour upsampling, skips concatenated before the upsampled half, a linear 1x1x1
head, no normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from engine.networks.layers import SLICE, STREAM_BYTES, VOLUME, Extent, Layers, image

MOST_LEVELS = 12  # at level 10, 512 voxels are reduced to one


@dataclass(frozen=True)
class UNet3D:
    """3D U-Net; 996,769 parameters at width 32 with 3 levels.

    Attributes:
        width: channels of the first level; each further level has twice as many.
        levels: number of resolutions, including the full one.

    Example:
        >>> network = UNet3D(width=32, levels=3)
        >>> network.stride, network.radius
        ((4, 4, 4), (23, 23, 23))
    """

    width: int = 32
    levels: int = 3

    kernel: ClassVar[Extent] = VOLUME
    sees_prior: ClassVar[bool] = False
    sees_dose: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.width < 1 or not 1 <= self.levels <= MOST_LEVELS:
            raise ValueError(
                f"network.width must be positive and network.levels lie in [1, {MOST_LEVELS}], "
                f"not {self.width} and {self.levels}"
            )

    def build(self, *, precision: str = "float32", seed: int = 0) -> Any:
        """The Keras model: (B, Z, Y, X, 1) noisy in window units -> estimate of the clean image."""
        import keras

        noisy = image("noisy")
        layers = Layers(self.kernel, precision, seed)
        return keras.Model(noisy, layers.head(_body(layers, noisy, self.width, self.levels)))

    @property
    def stride(self) -> Extent:
        """The shape of the network's input must be a multiple of it."""
        z, y, x = (2 ** (self.levels - 1) if extent > 1 else 1 for extent in self.kernel)
        return z, y, x

    @property
    def radius(self) -> Extent:
        """The receptive radius in voxels, along (Z, Y, X)."""
        z, y, x = (receptive_radius(self.levels) if extent > 1 else 0 for extent in self.kernel)
        return z, y, x

    @property
    def bytes_per_voxel(self) -> int:
        """Memory of inference in float32: the peak holds skip, concatenation and output."""
        return 4 * 5 * self.width

    def streamed_bytes(self, pixels: int, step: int) -> int:
        """Memory of a stream in float32, `step` slices of so many pixels at a time.

        Each convolution keeps two slices, and each skip those until the coarser levels are done.
        The peak is at the first convolution after the first skip, with a copy of its window.
        """
        kept = 0.0
        for level in range(1, self.levels + 1):
            width = self.width * 2 ** (level - 1)
            coarser = receptive_radius(self.levels - level + 1) - 4  # of this level's convolutions
            slices = coarser + 2 + 2 * (2 + step / 2) + 2 if level < self.levels else 2 + 2
            kept += slices * width / 4 ** (level - 1)
        window = (2 * (step + 2) + step) * self.width
        return STREAM_BYTES + int(1.35 * 4 * pixels * (kept + window))


@dataclass(frozen=True)
class UNet2D(UNet3D):
    """2D U-Net, slice by slice; 332,641 parameters at width 32 with 3 levels.

    Example:
        >>> UNet2D(width=32, levels=3).stride
        (1, 4, 4)
    """

    kernel: ClassVar[Extent] = SLICE


@dataclass(frozen=True)
class ResPrUNet(UNet3D):
    """ResPr-UNet: a 3D U-Net that corrects a prior image; 997,633 parameters at width 32.

    Abascal et al., EUSIPCO 2020: the prior image is a second input channel and is added to the
    output, so the network learns the residual clean - prior.

    Example:
        >>> network = ResPrUNet(width=32, levels=3)
        >>> network.stride, network.sees_prior
        ((4, 4, 4), True)
    """

    sees_prior: ClassVar[bool] = True
    sees_dose: ClassVar[bool] = False

    def build(self, *, precision: str = "float32", seed: int = 0) -> Any:
        """The Keras model: [noisy, prior], each (B, Z, Y, X, 1) -> estimate of the clean image."""
        import keras

        noisy, prior = image("noisy"), image("prior")
        layers = Layers(self.kernel, precision, seed)
        both = layers.joined([noisy, prior], "entrance")
        residual = layers.head(_body(layers, both, self.width, self.levels))
        estimate = keras.layers.Add(dtype="float32", name="estimate")([residual, prior])
        return keras.Model([noisy, prior], estimate)


def _body(layers: Layers, x: Any, width: int, levels: int) -> Any:
    skips = []
    for level in range(1, levels):
        x = layers.convolution(x, width * 2 ** (level - 1), f"down{level}_a")
        x = layers.convolution(x, width * 2 ** (level - 1), f"down{level}_b")
        skips.append(x)
        x = layers.pooled(x, f"pool{level}")
    x = layers.convolution(x, width * 2 ** (levels - 1), "bottom_a")
    x = layers.convolution(x, width * 2 ** max(levels - 2, 0), "bottom_b")
    for level in range(levels - 1, 0, -1):
        x = layers.raised(x, f"raise{level}")
        x = layers.joined([skips.pop(), x], f"skip{level}")
        x = layers.convolution(x, width * 2 ** (level - 1), f"up{level}_a")
        # The next finer level is half as wide; the first level has none.
        x = layers.convolution(x, width * 2 ** max(level - 2, 0), f"up{level}_b")
    return x


def receptive_radius(levels: int) -> int:
    """The distance of the farthest input voxel, from intervals followed through the levels."""
    period = 2 ** (levels - 1)
    reach = 0
    for voxel in range(period):  # the reach depends on the position in the coarsest cell
        low, high = voxel, voxel
        for _ in range(1, levels):
            low, high = (low - 2) // 2, (high + 2) // 2
        low, high = low - 2, high + 2
        for _ in range(1, levels):
            low, high = 2 * low - 2, 2 * high + 1 + 2
        reach = max(reach, voxel - low, high - voxel)
    return reach
