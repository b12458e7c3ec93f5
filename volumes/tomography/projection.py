"""Projection and back-projection of slices.

Both are sums over gathered neighbours. XLA compiles each sum into one loop without a matrix of
weights. The gradients are the exact transposes of these discrete sums. Images are square (S, Y, X)
in 1 / pixel. Sinograms are (S, views, bins), dimensionless. All are float32 tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.tomography import ramp_filter
from volumes.tomography.geometry import Geometry

_AT_ONCE = 32  # views per call: the memory of a gradient is proportional to them

Linear = tuple[Callable[..., Any], Callable[..., Any]]  # a function, and its transpose


def project(images: Any, geometry: Geometry) -> Any:
    """Line integrals along every ray (Joseph, IEEE Trans. Med. Imaging 1, 1982).

    A ray is sampled once per row, or once per column if it crosses more columns. Each sample is
    interpolated linearly between two pixels.

    Args:
        images: (S, N, N). Outside the image there is air, 0.
        geometry: of the rays.

    Returns:
        (S, views, bins).
    """
    import tensorflow as tf

    count, size = images.shape[:2]
    both = tf.stack([images, tf.transpose(images, (0, 2, 1))], 1)
    # One column of air on either side represents everything outside the image.
    table = tf.reshape(tf.pad(both, ((0, 0), (0, 0), (0, 0), (1, 1))), (count, -1))
    rays = _crossings(geometry, size)
    chunks = [tuple(array[chunk] for array in rays) for chunk in _chunks(geometry.views)]
    return tf.concat([_linear(_ray_sums(size), table, chunk) for chunk in chunks], 1)


def back_project(sinogram: Any, geometry: Geometry, size: int) -> Any:
    """The back-projection of views, weighted by the distance of the source.

    It is pixel-driven: the value of a pixel is interpolated linearly between two bins of each view.
    This is the sum in the inversion formula. It is not the transpose of `project`, which is the
    gradient of `project`.

    Args:
        sinogram: (S, views, bins), filtered.
        geometry: of the rays.
        size: N, side of the slice in pixels.

    Returns:
        (S, N, N).
    """
    import tensorflow as tf

    c, d = (f(geometry.angles).astype(np.float32) for f in (np.cos, np.sin))
    sums = _pixel_sums(geometry.divergence, geometry.bin_width, size)
    total = tf.zeros((sinogram.shape[0], size, size))
    for chunk in _chunks(geometry.views):
        total += _linear(sums, sinogram[:, chunk], (c[chunk], d[chunk]))
    return geometry.arc / geometry.views * total


def reconstruct(sinogram: Any, geometry: Geometry, size: int, window: str = "ram-lak") -> Any:
    """Filtered back-projection (Kak and Slaney, Principles of CT Imaging, 1988, chapter 3).

    Args:
        sinogram: (S, views, bins).
        geometry: of the rays.
        size: N, side of the slice in pixels.
        window: of the ramp filter, one of `ramp_filter.WINDOWS`.

    Returns:
        (S, N, N) in 1 / pixel.
    """
    import tensorflow as tf

    weight, response = ramp_filter.filters(geometry, window)
    length = 2 * (response.size - 1)
    spectrum = tf.signal.rfft(sinogram * weight, [length])
    spectrum *= tf.cast(response, spectrum.dtype)
    filtered = tf.signal.irfft(spectrum, [length])[..., : geometry.bins]
    return back_project(filtered, geometry, size)


def _chunks(views: int) -> list[slice]:
    """The views in chunks, of equal length if possible: each length is compiled separately."""
    even = (n for n in range(_AT_ONCE // 2, _AT_ONCE + 1) if views % n == 0)
    step = max(even, default=_AT_ONCE)
    return [slice(first, first + step) for first in range(0, views, step)]


@lru_cache(maxsize=8)
def _crossings(geometry: Geometry, size: int) -> tuple[npt.NDArray[Any], ...]:
    """(views, bins) per ray: column at row 0, columns per row, path length per row, table offset.

    Rays that are closer to the rows than to the columns are sampled in the transposed slice.
    """
    theta, s = geometry.rays
    c, d = np.cos(theta), np.sin(theta)
    upright = np.abs(c) >= np.abs(d)
    along, across = np.where(upright, (c, d), (d, c))
    slope = -across / along
    half = (size - 1) / 2
    start = s / along + half - slope * half
    table = np.where(upright, 0, size * (size + 2))
    floats = (array.astype(np.float32) for array in (start, slope, 1 / np.abs(along)))
    return *floats, table.astype(np.int32)


@lru_cache(maxsize=8)
def _ray_sums(size: int) -> Linear:
    """(S, 2 N (N + 2)) table of a slice and its transpose -> (S, views, bins) sums along rays."""
    import tensorflow as tf

    def sums(table: Any, start: Any, slope: Any, path: Any, which: Any) -> Any:
        rows = tf.range(size)
        column = start[..., None] + slope[..., None] * tf.cast(rows, tf.float32)
        column = tf.clip_by_value(column, -1.0, float(size))
        left = tf.minimum(tf.floor(column), size - 1.0)
        place = tf.cast(left, tf.int32) + 1 + rows * (size + 2) + which[..., None]
        one, other = tf.gather(table, place, axis=1), tf.gather(table, place + 1, axis=1)
        return path * tf.reduce_sum(one + (column - left) * (other - one), -1)

    return _compiled(sums)


@lru_cache(maxsize=8)
def _pixel_sums(divergence: float, bin_width: float, size: int) -> Linear:
    """(S, views, bins) -> (S, N, N) sums of the views at every pixel."""
    import tensorflow as tf

    def sums(views: Any, c: Any, d: Any) -> Any:
        slices, count, bins = views.shape
        at = tf.range(size, dtype=tf.float32) - (size - 1) / 2
        x, y, c, d = at[None, None, :], at[None, :, None], c[:, None, None], d[:, None, None]
        depth = 1 + divergence * (y * c - x * d)  # distance from the source, 1 at the centre
        place = (x * c + y * d) / (depth * bin_width) + (bins - 1) / 2
        seen = tf.cast((place >= 0) & (place <= bins - 1), tf.float32)
        place = tf.clip_by_value(place, 0.0, bins - 1.0)
        left = tf.floor(place)
        first = tf.cast(left, tf.int32) + bins * tf.range(count)[:, None, None]
        # The last bin has no right neighbour; as the left one it has the weight 1.
        flat = tf.pad(tf.reshape(views, (slices, -1)), ((0, 0), (0, 1)))
        one, other = tf.gather(flat, first, axis=1), tf.gather(flat, first + 1, axis=1)
        weight = seen / (depth * depth)
        return tf.reduce_sum(weight * (one + (place - left) * (other - one)), 1)

    return _compiled(sums)


def _compiled(sums: Callable[..., Any]) -> Linear:
    import tensorflow as tf

    def transpose(zero: Any, wanted: Any, *rays: Any) -> Any:
        # The gradient of a gather is a scatter, which is its transpose.
        with tf.GradientTape() as tape:
            tape.watch(zero)
            values = sums(zero, *rays)
        return tape.gradient(values, zero, wanted)

    # Without XLA, every term of the sums is written to memory: six times slower on a CPU.
    return tf.function(sums, jit_compile=True), tf.function(transpose, jit_compile=True)


def _linear(pair: Linear, values: Any, rays: tuple[npt.NDArray[Any], ...]) -> Any:
    """Applies a linear function. Its gradient computes the terms again instead of storing them."""
    import tensorflow as tf

    sums, transpose = pair

    def apply(x: Any) -> Any:
        return sums(x, *rays), lambda wanted: transpose(tf.zeros_like(x), wanted, *rays)

    return tf.custom_gradient(apply)(values)
