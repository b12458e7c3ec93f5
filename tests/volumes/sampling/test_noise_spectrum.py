import math

import numpy as np
import pytest

from volumes import random_draws
from volumes.sampling.noise_spectrum import (
    Spectrum,
    device_noise,
    device_strength,
    slice_noise,
    slice_strength,
)

WHITE = Spectrum(exponent=0.0, cutoff=math.inf)
KERNEL = Spectrum(exponent=0.6, cutoff=0.25)
GRAIN = Spectrum(exponent=0.4, cutoff=0.3, stretch=2.0, angle=0.5)


def formula(shape, exponent, cutoff, stretch=1.0, angle=0.0):
    """The power at every frequency by an independent formula; its mean is 1."""
    f_y, f_x = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    along = f_x * np.cos(angle) + f_y * np.sin(angle)
    across = f_x * np.sin(angle) - f_y * np.cos(angle)
    f = np.hypot(along * np.sqrt(stretch), across / np.sqrt(stretch))
    power = (f**exponent * np.exp(-((f / cutoff) ** 2))) ** 2
    # Real images have the same power at f and -f, which coincide at the Nyquist frequency.
    power = (power + np.roll(power[::-1, ::-1], 1, axis=(0, 1))) / 2
    return power / np.mean(power)


def power(noise):
    """The mean power spectrum of (n, Y, X) noise; that of white noise of variance 1 is 1."""
    return np.mean(np.abs(np.fft.fft2(noise)) ** 2, axis=0) / np.prod(noise.shape[1:])


def on_host(spectrum, n=300, shape=(32, 48)):
    return np.stack(
        [slice_noise(shape, spectrum, random_draws.rng(0, "test", i)) for i in range(n)]
    )


def on_device(spectrum, n=300, shape=(32, 48)):
    key = random_draws.device_key(0, "test", 7)
    return device_noise((n, *shape, 1), spectrum.vector(), key).numpy()[..., 0]


@pytest.mark.parametrize("make", [on_host, on_device])
@pytest.mark.parametrize(
    ("spectrum", "numbers"),
    [(WHITE, (0, math.inf)), (KERNEL, (0.6, 0.25)), (GRAIN, (0.4, 0.3, 2.0, 0.5))],
)
def test_the_power_spectrum_is_that_of_the_formula(cpu, make, spectrum, numbers):
    found, expected = power(make(spectrum)), formula((32, 48), *numbers)
    # The power of n slices at one frequency deviates by 1 / sqrt(n) of itself.
    np.testing.assert_allclose(found, expected, rtol=6 / np.sqrt(300), atol=1e-4)


@pytest.mark.parametrize("make", [on_host, on_device])
def test_noise_of_any_spectrum_has_unit_variance_and_no_mean(cpu, make):
    for spectrum in (WHITE, KERNEL, GRAIN):
        noise = make(spectrum).astype(np.float64)
        assert np.mean(noise**2) == pytest.approx(1, rel=0.02)
        assert abs(noise.mean()) < 0.01


def test_grain_is_long_in_its_direction(cpu):
    noise = on_host(Spectrum(exponent=0.3, cutoff=0.2, stretch=3.0))  # along X
    along = np.mean(noise[:, :, 1:] * noise[:, :, :-1])
    across = np.mean(noise[:, 1:] * noise[:, :-1])
    assert along > across + 0.2


@pytest.mark.parametrize("make", [on_host, on_device])
def test_neighbouring_slices_are_independent(cpu, make):
    noise = make(KERNEL)
    r = np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]
    assert abs(r) < 0.01


def test_the_noise_is_the_same_in_a_graph_and_under_xla(cpu):
    import tensorflow as tf

    def make(vector, key):
        return device_noise((2, 16, 24, 1), vector, key)

    given = KERNEL.vector(), random_draws.device_key(0, "test", 1)
    eager = make(*given).numpy()
    np.testing.assert_allclose(tf.function(make)(*given), eager, atol=1e-5)
    np.testing.assert_allclose(tf.function(make, jit_compile=True)(*given), eager, atol=1e-5)


def test_the_same_key_gives_the_same_bits(cpu):
    np.testing.assert_array_equal(on_device(KERNEL, 3), on_device(KERNEL, 3))


def test_noise_is_stronger_where_the_body_is_thick(cpu):
    clean = np.zeros((96, 128), np.float32)
    clean[:, 64:] = 0.8
    strength = slice_strength(clean, 2.0)
    assert np.mean(strength**2) == pytest.approx(1, rel=1e-5)
    assert strength[48, 120] > 2 * strength[48, 8]
    on_device = device_strength(clean[None, ..., None], np.float32(2.0)).numpy()
    np.testing.assert_allclose(on_device[0, ..., 0], strength, rtol=1e-4)
    assert slice_strength(clean, 0.0) == 1.0
