"""Bias-free U-Net: a residual 2D U-Net that generalises to other noise levels.

Mohan et al., "Robust and interpretable blind image denoising via bias-free convolutional neural
networks", ICLR 2020: a network without additive constants is homogeneous, f(a x) = a f(x) for
a > 0, and therefore denoises at levels that it was not trained on. Residual blocks, strided
convolutions and additive skips are those of DRUNet (Zhang et al., TPAMI 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from engine.networks.layers import SLICE, Extent, Layers, image
from engine.networks.unet import MOST_LEVELS

_SHELL_WIDTH = 16
_SMALL = 0.02  # deviation of a block's last kernel: an untrained block is almost the identity


@dataclass(frozen=True)
class BiasFreeUNet2D:
    """Bias-free U-Net, slice by slice; 224,544 parameters with the default widths.

    With widths (48, 64, 96) it has 877,344 parameters. At full resolution there are two
    convolutions with 16 channels before the body and two after it. The body works at 1/2, 1/4,
    1/8, ... of the resolution, with two residual blocks per level on the way down and on the way
    up. The output of the head is subtracted from the input. No layer has a bias or normalisation.

    Attributes:
        widths: channels at 1/2, 1/4, 1/8, ... of the resolution.

    Example:
        >>> network = BiasFreeUNet2D(widths=(24, 32, 48))
        >>> network.stride, network.radius
        ((1, 8, 8), (0, 91, 91))
    """

    widths: tuple[int, ...] = (24, 32, 48)

    sees_prior: ClassVar[bool] = False
    sees_dose: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.widths) <= MOST_LEVELS or min(self.widths) < 1:
            raise ValueError(
                f"network.widths must be 1 to {MOST_LEVELS} positive numbers, not {self.widths}"
            )

    def build(self, *, precision: str = "float32", seed: int = 0) -> Any:
        """The Keras model: (B, Z, Y, X, 1) noisy in window units -> estimate of the clean image."""
        import keras

        noisy = image("noisy")
        layers = Layers(SLICE, precision, seed)
        x = _convolution(layers, noisy, _SHELL_WIDTH, "shell_down_a")
        x = _convolution(layers, x, _SHELL_WIDTH, "shell_down_b")
        skips = []
        for level, width in enumerate(self.widths, 1):
            skips.append(x)
            x = layers.strided(x, width, f"lower{level}")
            x = _blocks(layers, x, width, f"down{level}" if level < len(self.widths) else "bottom")
        for level, width in reversed(list(enumerate((_SHELL_WIDTH, *self.widths[:-1]), 1))):
            x = layers.transposed(x, width, f"raise{level}", bias=False, initial="he_normal")
            x = layers.summed(x, skips.pop(), f"skip{level}")
            if level > 1:
                x = _blocks(layers, x, width, f"up{level - 1}")
        x = _convolution(layers, x, _SHELL_WIDTH, "shell_up")
        residual = layers.head(x, extent=SLICE, bias=False, initial="he_normal")
        estimate = keras.layers.Subtract(dtype="float32", name="estimate")([noisy, residual])
        return keras.Model(noisy, estimate)

    def widens(self, narrow: Any) -> bool:
        """Whether a network is this one with fewer channels, see `engine.networks.widening`."""
        return (
            type(narrow) is type(self)
            and len(narrow.widths) == len(self.widths)
            and narrow.widths != self.widths
            and all(few <= many for few, many in zip(narrow.widths, self.widths, strict=True))
        )

    @property
    def stride(self) -> Extent:
        """The shape of the network's input must be a multiple of it."""
        return (1, 2 ** len(self.widths), 2 ** len(self.widths))

    @property
    def radius(self) -> Extent:
        """The receptive radius in voxels, along (Z, Y, X)."""
        voxels = _receptive_radius(len(self.widths))
        return (0, voxels, voxels)

    @property
    def bytes_per_voxel(self) -> int:
        """Memory of inference in float32.

        The peak is either at full resolution, with the skip, the upsampled body and their sum, or
        at half resolution, with the input, skip, inner and outer image of a block.
        """
        return 4 * max(4 * _SHELL_WIDTH, 4 * self.widths[0] // 4 + _SHELL_WIDTH)


def _blocks(layers: Layers, x: Any, width: int, name: str) -> Any:
    for half in "ab":
        inner = _convolution(layers, x, width, f"{name}_{half}1")
        inner = layers.convolution(
            inner, width, f"{name}_{half}2", relu=False, bias=False, initial=_SMALL
        )
        x = layers.summed(x, inner, f"{name}_{half}_sum")
    return x


def _convolution(layers: Layers, x: Any, width: int, name: str) -> Any:
    return layers.convolution(x, width, name, bias=False, initial="he_normal")


def _receptive_radius(levels: int) -> int:
    """The distance of the farthest input voxel, from intervals followed from output to input."""
    shell, blocks = 2, 4  # numbers of consecutive convolutions, each adding one voxel
    reach = 0
    for voxel in range(2**levels):  # the reach depends on the position in the coarsest cell
        low, high = voxel - shell, voxel + shell
        for level in range(1, levels + 1):
            low, high = low // 2, high // 2
            low, high = low - blocks, high + blocks
            if level == levels:
                break
        for level in range(levels, 0, -1):
            low, high = 2 * low, 2 * high + 1
            reached = blocks if level > 1 else shell
            low, high = low - reached, high + reached
        reach = max(reach, voxel - low, high - voxel)
    return reach
