"""Layers of the networks, with explicit names, datatypes and seeds.

All layers act on (B, Z, Y, X, C) tensors. In a 2D network, kernels and pools have the extent 1
along Z: it runs slice by slice on the same tensors, with as many parameters as 2D layers have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from volumes import random_draws

Extent = tuple[int, int, int]
# Initial kernel: Glorot and Bengio (2010), He et al. (2015), or the deviation of a normal one.
Initial = Literal["glorot_uniform", "he_normal"] | float

VOLUME: Extent = (3, 3, 3)
SLICE: Extent = (1, 3, 3)
POINT: Extent = (1, 1, 1)
STREAM_BYTES = 3 * 2**24  # what a stream needs beside its slices
LAST = "channels_last"  # the user's keras.json may name another default
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclass(frozen=True)
class Layers:
    """A factory for the layers of one network.

    Explicit names keep checkpoints readable. Explicit seeds make the initial weights a function of
    (seed, name); the default seeds of Keras depend on counters of the process.

    Attributes:
        kernel: extent of the convolutions, `VOLUME` or `SLICE`.
        precision: of the layers between input and output: float32, bfloat16 or float16.
        seed: of the initial weights.
    """

    kernel: Extent
    precision: str
    seed: int

    def convolution(
        self, x: Any, width: int, name: str, *, relu: bool = True, bias: bool = True,
        initial: Initial = "glorot_uniform",
    ) -> Any:  # fmt: skip
        """A "same" convolution to `width` channels."""
        return self._convolution(x, width, self.kernel, name, self._policy, relu, bias, initial)

    def strided(self, x: Any, width: int, name: str) -> Any:
        """Learned downsampling to `width` channels: kernel size equal to the stride, no bias."""
        from keras import layers

        return layers.Conv3D(
            width,
            self.stride,
            strides=self.stride,
            padding="same",
            data_format=LAST,
            use_bias=False,
            kernel_initializer=self._initializer(name, "he_normal"),
            dtype=self._policy,
            name=name,
        )(x)

    def projection(self, x: Any, width: int, name: str) -> Any:
        """A linear 1x1x1 convolution to `width` channels, without bias."""
        return self._convolution(x, width, POINT, name, self._policy, False, False)

    def head(
        self, x: Any, name: str = "head", *, extent: Extent = POINT, bias: bool = True,
        initial: Initial = "glorot_uniform",
    ) -> Any:  # fmt: skip
        """The last, linear convolution to one channel, in float32."""
        return self._convolution(x, 1, extent, name, "float32", False, bias, initial)

    def normalised(self, x: Any, name: str, *, relu: bool = True) -> Any:
        """Batch normalisation (Ioffe and Szegedy, 2015) and ReLU.

        The statistics are those of the global batch. With separate statistics, replicas would
        drift apart.
        """
        from keras import layers

        x = layers.BatchNormalization(synchronized=True, dtype=self._policy, name=name)(x)
        return layers.ReLU(dtype=self._policy, name=f"{name}_relu")(x) if relu else x

    def summed(self, x: Any, shortcut: Any, name: str) -> Any:
        """The sum of two tensors."""
        from keras import layers

        return layers.Add(dtype=self._policy, name=name)([x, shortcut])

    def added(self, x: Any, shortcut: Any, name: str) -> Any:
        """The sum of two tensors, followed by ReLU: the end of a residual unit."""
        from keras import layers

        x = self.summed(x, shortcut, name)
        return layers.ReLU(dtype=self._policy, name=f"{name}_relu")(x)

    def pooled(self, x: Any, name: str) -> Any:
        """Max pooling over 2 voxels along every axis in which the kernel extends."""
        from keras import layers

        # CPUs have no float16 kernel. The maximum commutes with casts, so the result is the same.
        policy = "float32" if self.precision == "float16" else self._policy
        return layers.MaxPooling3D(self.stride, data_format=LAST, dtype=policy, name=name)(x)

    def raised(self, x: Any, name: str) -> Any:
        """Nearest-neighbour upsampling to the shape before `pooled`."""
        from keras import layers

        return layers.UpSampling3D(self.stride, data_format=LAST, dtype=self._policy, name=name)(x)

    def transposed(
        self, x: Any, width: int, name: str, *, bias: bool = True,
        initial: Initial = "glorot_uniform",
    ) -> Any:  # fmt: skip
        """Learned upsampling to `width` channels and to the shape before `pooled`.

        A transposed convolution with kernel size equal to the stride: each voxel becomes a block,
        and blocks do not overlap.
        """
        from keras import layers

        return layers.Conv3DTranspose(
            width,
            self.stride,
            strides=self.stride,
            padding="same",
            data_format=LAST,
            use_bias=bias,
            kernel_initializer=self._initializer(name, initial),
            dtype=self._policy,
            name=name,
        )(x)

    def joined(self, parts: list[Any], name: str) -> Any:
        """The concatenated channels of several tensors."""
        from keras import layers

        return layers.Concatenate(dtype=self._policy, name=name)(parts)

    def with_dose(self, noisy: Any, dose: Any) -> Any:
        """The noisy image with a second, constant channel: the dose."""
        from keras import layers, ops

        everywhere = ops.zeros_like(noisy) + dose
        return layers.Concatenate(dtype="float32", name="with_dose")([noisy, everywhere])

    @property
    def stride(self) -> Extent:
        """The factors of `pooled` along (Z, Y, X)."""
        z, y, x = (2 if extent > 1 else 1 for extent in self.kernel)
        return z, y, x

    @property
    def _policy(self) -> str:
        return _POLICIES[self.precision]

    def _convolution(
        self, x: Any, width: int, extent: Extent, name: str, policy: str, relu: bool, bias: bool,
        initial: Initial = "glorot_uniform",
    ) -> Any:  # fmt: skip
        from keras import layers

        return layers.Conv3D(
            width,
            extent,
            padding="same",
            data_format=LAST,
            activation="relu" if relu else None,
            use_bias=bias,
            kernel_initializer=self._initializer(name, initial),
            dtype=policy,
            name=name,
        )(x)

    def _initializer(self, name: str, initial: Initial) -> Any:
        from keras import initializers

        seed = int(random_draws.device_key(self.seed, "weights", name)[0])
        if initial == "glorot_uniform":
            return initializers.GlorotUniform(seed=seed)
        if initial == "he_normal":
            return initializers.HeNormal(seed=seed)
        return initializers.RandomNormal(stddev=initial, seed=seed)


def dose() -> Any:
    """An input, (B, 1, 1, 1, 1): the dose of an example, see `photon_noise.log_dose`."""
    import keras

    return keras.Input((1, 1, 1, 1), name="dose", dtype="float32")


def image(name: str) -> Any:
    """An input: an image of any shape with one channel, float32 in window units."""
    import keras

    return keras.Input((None, None, None, 1), name=name, dtype="float32")
