"""Streamed layers: which slices of its input a layer needs, and how it acts on a window of them.

A layer that is not known to depend on few slices, such as one with statistics over the whole image,
is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reach:
    """Which slices of its input each slice of a layer depends on.

    Output slice o of a convolution or pool depends on `kernel` input slices from stride * o - low
    on. If the layer is raised (upsampling, transposed convolution), it is the other way round: so
    many output slices depend on each input slice.

    Attributes:
        depth: slices of the output.
        kernel: slices, with dilation.
        stride: slices from one kernel to the next.
        low: slices of padding before the first slice.
        raised: whether the output has more slices than the input.

    Example:
        >>> Reach(depth=9, kernel=3, low=1).needs(4, 6)
        (3, 7)
        >>> Reach(depth=8, kernel=2, stride=2, raised=True).needs(4, 7)
        (2, 4)
    """

    depth: int
    kernel: int = 1
    stride: int = 1
    low: int = 0
    raised: bool = False

    def needs(self, first: int, after: int) -> tuple[int, int]:
        """The input slices of output slices. They may lie beyond the volume."""
        if self.raised:
            start = -((self.kernel - 1 - self.low - first) // self.stride)
            return start, (after - 1 + self.low) // self.stride + 1
        start = first * self.stride - self.low
        return start, start + (after - 1 - first) * self.stride + self.kernel

    def known(self, given: int) -> int:
        """How many output slices follow from the first input slices if others are to come."""
        if self.raised:
            known = given * self.stride - self.low
        else:
            known = (given + self.low - self.kernel) // self.stride + 1
        return min(max(known, 0), self.depth)

    def beyond(self, first: int, after: int, given: tuple[int, int]) -> tuple[int, int]:
        """How many slices that follow from a window of the input lie before and after these.

        None do, unless the layer is raised.
        """
        if not self.raised:
            return 0, 0
        start = given[0] * self.stride - self.low
        end = (given[1] - 1) * self.stride - self.low + self.kernel
        return first - start, end - after


@dataclass(frozen=True)
class StreamedLayer:
    """A layer that can be applied to a window of slices.

    Attributes:
        apply: a layer that acts on each slice alone takes the list of its inputs. Another takes the
            window that its output slices need, with slices of zeros beyond the volume, and
            `Reach.beyond`: so many slices of a raised output are cut off.
        reach: by the number of slices of the input; None if the layer acts on each slice alone.
    """

    apply: Callable[..., Any]
    reach: Callable[[int], Reach] | None = None


class UnknownLayerError(Exception):
    """A layer that may depend on every slice."""


# Layers and operations of Keras that act on each slice alone.
_ALONE = frozenset((
    "Activation", "Add", "Average", "BatchNormalization", "Concatenate", "Dropout", "ELU",
    "GaussianNoise", "Identity", "LeakyReLU", "Maximum", "Minimum", "Multiply", "ReLU", "Rescaling",
    "Softmax", "SpatialDropout3D", "Subtract", "ZerosLike",
))  # fmt: skip


def streamed_layer(layer: Any) -> StreamedLayer:
    """A layer or operation of a Keras model.

    Raises:
        UnknownLayerError: if it is not known to depend on few slices.
    """
    from keras import layers

    kind = type(layer)
    if kind.__module__.partition(".")[0] != "keras" or not _is_plain(layer):
        raise UnknownLayerError(kind.__name__)
    if kind is layers.Conv3D:
        return _convolution(layer)
    if kind is layers.Conv3DTranspose and layer.output_padding is None:
        return _transposed(layer)
    if kind in (layers.MaxPooling3D, layers.AveragePooling3D):
        return _pool(layer)
    if kind is layers.UpSampling3D and layer.size[0] > 1:
        factor = layer.size[0]
        return _in_blocks(layer, lambda n: Reach(n * factor, factor, factor, raised=True))
    if kind is layers.UpSampling3D or kind.__name__ in _ALONE:
        return _alone(layer)
    raise UnknownLayerError(kind.__name__)


def _alone(layer: Any) -> StreamedLayer:
    from keras import layers

    listed = isinstance(layer, layers.Layer)  # a layer takes several inputs as a list
    return StreamedLayer(lambda x: layer(x) if listed and x[1:] else layer(*x))


def _in_blocks(layer: Any, reach: Callable[[int], Reach]) -> StreamedLayer:
    """A layer whose kernels lie side by side along Z: it can be applied as it is."""
    return StreamedLayer(lambda window, before, after: layer(window), reach)


def _is_plain(layer: Any) -> bool:
    """Whether the channels are the last axis, and the activation is one of Keras."""
    activation = getattr(layer, "activation", None)
    return (
        getattr(activation, "__module__", "keras").partition(".")[0] == "keras"
        and getattr(layer, "data_format", "channels_last") == "channels_last"
        and getattr(layer, "axis", -1) in (-1, 4)
    )


def _convolution(layer: Any) -> StreamedLayer:
    kernel, stride = _extents(layer)[0], layer.strides[0]

    def reach(depth: int) -> Reach:
        if layer.padding == "valid":
            return Reach((depth - kernel) // stride + 1, kernel, stride)
        before, _ = _padding(depth, kernel, stride)
        return Reach(-(-depth // stride), kernel, stride, before)

    if kernel == stride == 1:
        return _alone(layer)
    if kernel == stride:
        return _in_blocks(layer, _whole_blocks(layer, kernel))
    return StreamedLayer(lambda window, *_: _valid(layer, _in_plane(layer, window)), reach)


def _in_plane(layer: Any, window: Any) -> Any:
    """The window of a convolution with the zeros that "same" padding adds in the plane.

    Where the stride is 1 they are constants, which TensorFlow merges into the convolution: the
    window is not copied.
    """
    import tensorflow as tf

    if layer.padding == "valid":
        return window
    zeros = [(0, 0), (0, 0)]
    for axis, kernel, stride in zip((2, 3), _extents(layer)[1:], layer.strides[1:], strict=True):
        size = kernel if stride == 1 else tf.shape(window)[axis]
        zeros.append(_padding(size, kernel, stride, max if stride == 1 else tf.maximum))
    return tf.pad(window, [*zeros, (0, 0)])


def _transposed(layer: Any) -> StreamedLayer:
    kernels, strides = _extents(layer), layer.strides
    same = layer.padding == "same"
    low = [max(k - s, 0) // 2 if same else 0 for k, s in zip(kernels, strides, strict=True)]
    over = max(kernels[0] - strides[0], 0)

    def reach(depth: int) -> Reach:
        slices = depth * strides[0] + (0 if same else over)
        return Reach(slices, max(kernels[0], strides[0]), strides[0], low[0], raised=True)

    def apply(window: Any, before: Any, after: Any) -> Any:
        import tensorflow as tf

        found = _valid(layer, window)
        shape = tf.shape(found)
        size = tf.shape(window)[2:4] * strides[1:] if same else shape[2:4]
        found = found[:, before : shape[1] - after, low[1] :, low[2] :]
        return found[:, :, : size[0], : size[1]]

    if kernels[0] == strides[0] == 1:
        return _alone(layer)
    return StreamedLayer(apply, reach) if over else _in_blocks(layer, reach)


def _pool(layer: Any) -> StreamedLayer:
    kernel, stride = layer.pool_size[0], layer.strides[0]
    if kernel == stride == 1:
        return _alone(layer)
    if kernel == stride:
        return _in_blocks(layer, _whole_blocks(layer, kernel))
    if layer.padding == "same":
        raise UnknownLayerError(type(layer).__name__)
    return _in_blocks(layer, lambda depth: Reach((depth - kernel) // stride + 1, kernel, stride))


def _whole_blocks(layer: Any, size: int) -> Callable[[int], Reach]:
    def reach(depth: int) -> Reach:
        if layer.padding == "same" and depth % size:
            raise UnknownLayerError(type(layer).__name__)
        return Reach(depth // size, size, size)

    return reach


def _extents(layer: Any) -> list[int]:
    """The extents of a kernel, with dilation."""
    sizes = zip(layer.kernel_size, layer.dilation_rate, strict=True)
    return [(size - 1) * dilation + 1 for size, dilation in sizes]


def _padding(size: Any, kernel: int, stride: int, larger: Any = max) -> tuple[Any, Any]:
    """The zeros that "same" padding adds before and after an axis.

    Args:
        size: of the axis, a number or a tensor.
        kernel: extent along the axis.
        stride: along the axis.
        larger: of two sizes.
    """
    zeros = larger((-(-size // stride) - 1) * stride + kernel - size, 0)
    return zeros // 2, zeros - zeros // 2


def _valid(layer: Any, window: Any) -> Any:
    """A convolution, transposed or not, without padding."""
    from keras import layers, ops

    kind = ops.conv if type(layer) is layers.Conv3D else ops.conv_transpose
    window, kernel = (ops.cast(x, layer.compute_dtype) for x in (window, layer.kernel))
    found = kind(
        window, kernel, list(layer.strides), "valid", dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )  # fmt: skip
    if layer.use_bias:
        found = ops.add(found, ops.cast(layer.bias, layer.compute_dtype))
    return found if layer.activation is None else layer.activation(found)
