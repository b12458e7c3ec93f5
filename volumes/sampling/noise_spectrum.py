"""The spectrum of coloured noise, and noise with such a spectrum.

Noise of filtered back-projection has a power that rises with frequency (the ramp) and falls again
(the kernel's window, interpolation): Riederer et al., Phys. Med. Biol. 23, 1978. A sharp kernel has
a high cut-off, a soft kernel a low one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes import random_draws
from volumes.volume import Unit

_BLUR_VOXELS = 32  # of the mean that stands for the thickness of the body


@dataclass(frozen=True)
class Spectrum:
    """Amplitude of noise at a frequency f in cycles a pixel: f^exponent exp(-(f / cutoff)^2).

    Attributes:
        exponent: of the rise; 0 is flat, 1 the ramp of filtered back-projection.
        cutoff: in cycles a pixel; infinite for no fall.
        stretch: ratio of length to width of the grain.
        angle: of the grain's long side, in radians from X towards Y.
        thickness: noise is exp(thickness) times as strong where the blurred image is one unit
            brighter; 0 for the same noise everywhere.

    Example:
        >>> white = Spectrum(exponent=0.0, cutoff=math.inf)
        >>> float(white.amplitude(np.array([0.1]), np.array([0.4]))[0])
        1.0
    """

    exponent: float
    cutoff: float
    stretch: float = 1.0
    angle: float = 0.0
    thickness: float = 0.0

    def vector(self) -> npt.NDArray[np.float32]:
        """(6,) float32 for the device: the five parameters of `_amplitude`, and the thickness."""
        # Frequencies along the grain's long side count more, those across it less.
        along = np.array([math.sin(self.angle), math.cos(self.angle)])  # Y, X
        across = np.array([along[1], -along[0]])
        form = self.stretch * np.outer(along, along) + np.outer(across, across) / self.stretch
        fall = (1.0 / self.cutoff) ** 2
        numbers = (self.exponent / 2, fall, form[0, 0], 2 * form[0, 1], form[1, 1], self.thickness)
        return np.array(numbers, np.float32)

    def amplitude(self, f_y: Any, f_x: Any) -> Any:
        """The amplitude at frequencies in cycles a pixel, not normalised."""
        return _amplitude(f_y, f_x, self.vector().astype(np.float64), np.exp)


def _amplitude(f_y: Any, f_x: Any, vector: Any, exp: Any) -> Any:
    """The formula of `Spectrum`, for NumPy and TensorFlow."""
    half_exponent, fall, yy, yx, xx = (vector[i] for i in range(5))
    square = yy * f_y * f_y + yx * f_y * f_x + xx * f_x * f_x
    return square**half_exponent * exp(-fall * square)


def slice_noise(shape: tuple[int, int], spectrum: Spectrum, rng: np.random.Generator) -> Unit:
    """(Y, X) noise of unit variance with a spectrum, computed on the host."""
    from scipy import fft

    amplitude, norm = _amplitudes(shape, spectrum)
    white = rng.standard_normal((2, *shape))
    # The real part of the transform of white complex noise: no symmetry is needed.
    image = fft.ifft2(amplitude * (white[0] + 1j * white[1])).real * math.prod(shape)
    return np.asarray(image / norm, np.float32)


@lru_cache(maxsize=4)
def _amplitudes(
    shape: tuple[int, int], spectrum: Spectrum
) -> tuple[npt.NDArray[np.float64], np.float64]:
    """The amplitude at every frequency of a slice, and its norm: the same for all its slices."""
    amplitude = spectrum.amplitude(
        np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]
    )
    amplitude.setflags(write=False)
    return amplitude, np.sqrt(np.sum(amplitude**2))


def device_noise(shape: tuple[int, int, int, int], vector: Any, key: Any) -> Any:
    """(Z, Y, X, C) noise of unit variance with a spectrum, computed on the device.

    The inverse transform is a product with matrices of cosines and sines. They are small for
    training crops, every device multiplies matrices, and the same key gives the same bits.

    Args:
        shape: static (Z, Y, X, C).
        vector: (6,) float32 tensor, from `Spectrum.vector`.
        key: (2,) int32 tensor, from `random_draws.device_key`.
    """
    import tensorflow as tf

    z, y, x, c = shape
    white = random_draws.normal((2, z, c, y, x), key)
    f_y, f_x = (np.fft.fftfreq(n).astype(np.float32) for n in (y, x))
    amplitude = _amplitude(f_y[:, None], f_x[None], vector, tf.exp)
    amplitude = amplitude * tf.math.rsqrt(tf.reduce_sum(tf.square(amplitude)))
    real, imaginary = amplitude * white[0], amplitude * white[1]
    (cos_y, sin_y), (cos_x, sin_x) = _waves(y), _waves(x)
    cosines = _along_x(real, cos_x) - _along_x(imaginary, sin_x)
    sines = _along_x(real, sin_x) + _along_x(imaginary, cos_x)
    noise = _along_y(cosines, cos_y) - _along_y(sines, sin_y)
    return tf.transpose(noise, (0, 2, 3, 1))


# Not the operator @: its broadcasting crashes TensorFlow 2.21 on CPUs for some shapes.
def _along_x(image: Any, matrix: Any) -> Any:
    """The product of a (N, X) matrix with the columns of a (Z, C, Y, X) tensor."""
    import tensorflow as tf

    return tf.einsum("zcyx,nx->zcyn", image, matrix)


def _along_y(image: Any, matrix: Any) -> Any:
    """The product of a (N, Y) matrix with the rows of a (Z, C, Y, X) tensor."""
    import tensorflow as tf

    return tf.einsum("zcyx,ny->zcnx", image, matrix)


def _waves(length: int) -> tuple[Unit, Unit]:
    """(length, length) cosines and sines; rows are voxels, columns are frequencies."""
    turns = np.outer(np.arange(length), np.arange(length)) % length / length
    cos, sin = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    return cos.astype(np.float32), sin.astype(np.float32)


def slice_strength(clean: Unit, thickness: float) -> Unit | float:
    """(Y, X) relative strength of noise at each voxel of a slice, of mean square 1."""
    if thickness == 0:
        return 1.0
    y, x = (_blur(length) for length in clean.shape)
    strength = np.exp(thickness * (y @ np.clip(clean, 0, 1) @ x.T))
    return np.asarray(strength / np.sqrt(np.mean(strength**2)), np.float32)


def device_strength(clean: Any, thickness: Any) -> Any:
    """(Z, Y, X, C) relative strength of noise at each voxel, of mean square 1 in each slice.

    Args:
        clean: (Z, Y, X, C) float32 tensor in window units.
        thickness: scalar float32 tensor.
    """
    import tensorflow as tf

    y, x = (_blur(length) for length in clean.shape[1:3])
    image = tf.transpose(tf.clip_by_value(clean, 0.0, 1.0), (0, 3, 1, 2))
    strength = tf.exp(thickness * _along_y(_along_x(image, x), y))
    square = tf.reduce_mean(tf.square(strength), axis=(2, 3), keepdims=True)
    return tf.transpose(strength * tf.math.rsqrt(square), (0, 2, 3, 1))


@lru_cache(maxsize=4)
def _blur(length: int) -> Unit:
    """(length, length) matrix of a Gaussian filter, reflected at the ends."""
    from scipy import ndimage

    matrix = ndimage.gaussian_filter1d(np.eye(length), _BLUR_VOXELS, axis=0)
    return np.asarray(matrix, np.float32)
