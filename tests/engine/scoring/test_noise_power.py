"""The noise power spectrum: known spectra come back, and it agrees with pylinac."""

import numpy as np
import pytest

from engine.scoring.noise_power import noise_power
from volumes import random_draws
from volumes.sampling.noise_spectrum import Spectrum, slice_noise


def white(regions: int, size: int = 64, sigma_hu: float = 25.0) -> np.ndarray:
    rng = random_draws.rng(0, "test of the noise power")
    return sigma_hu * rng.standard_normal((regions, size, size))


def test_white_noise_has_a_flat_spectrum_whose_integral_is_its_variance() -> None:
    noise = white(200)
    found = noise_power(noise, (0.5, 0.8), trend=None)
    frequency, power = found.radial
    # Each of the values has a relative error of 1 / sqrt(200 regions * frequencies of its ring).
    # Rings hold at least 8 frequencies, half of them mirrored: 4 sigma are 4 / sqrt(800) = 14 %.
    np.testing.assert_allclose(power, 25.0**2 * 0.5 * 0.8, rtol=0.14)
    assert power.mean() == pytest.approx(250, rel=0.01)
    assert found.variance_hu2 == pytest.approx(np.mean(noise**2), rel=1e-9)  # Parseval
    assert frequency[-1] == pytest.approx(0.5 / 0.8, rel=0.02)  # Nyquist of the coarser axis


def test_a_wave_stands_at_its_frequency_on_its_axis() -> None:
    at = np.arange(64) * 0.5
    wave = np.broadcast_to(10 * np.cos(2 * np.pi * at / 4), (1, 64, 64))  # along X, 4 mm long
    found = noise_power(wave, (0.5, 0.5))
    y, x = found.frequencies_per_mm
    row, column = np.unravel_index(np.argmax(found.power_hu2_mm2), found.power_hu2_mm2.shape)
    assert (y[row], abs(x[column])) == (0, 0.25)
    assert found.peak_per_mm == pytest.approx(0.25, rel=0.05)
    assert found.variance_hu2 == pytest.approx(50)


def test_coloured_noise_shows_the_spectrum_that_it_was_made_of() -> None:
    spectrum = Spectrum(exponent=1.0, cutoff=0.25)
    rng = random_draws.rng(0, "test of the noise power")
    noise = np.stack([20 * slice_noise((64, 64), spectrum, rng) for _ in range(200)])
    frequency, power = noise_power(noise, (1.0, 1.0), trend=None).radial
    wanted = (frequency * np.exp(-((frequency / 0.25) ** 2))) ** 2
    share, known = power / power.sum(), wanted / wanted.sum()
    np.testing.assert_allclose(share[3:], known[3:], rtol=0.14)  # as for white noise
    assert frequency[np.argmax(power)] == pytest.approx(0.25 / np.sqrt(2), abs=2 / 64)


@pytest.mark.parametrize("trend", [1, 2])
def test_a_trend_is_no_noise(trend: int) -> None:
    y, x = np.mgrid[:32, :32] / 32.0
    slope = 80 * y - 40 * x if trend == 1 else 80 * y * x - 40 * x**2
    noise = white(50, size=32)
    with_trend = noise_power(noise + slope, (1, 1), trend=trend)
    without = noise_power(noise, (1, 1), trend=trend)
    np.testing.assert_allclose(with_trend.power_hu2_mm2, without.power_hu2_mm2, atol=1e-8)
    assert noise_power(noise + slope, (1, 1)).variance_hu2 > 1.2 * without.variance_hu2
    terms = {1: 3, 2: 6}[trend]
    share = without.variance_hu2 / noise_power(noise, (1, 1), trend=None).variance_hu2
    # Of white noise a fit takes its own degrees of freedom: 3 of 1024, known to 4 sigma.
    assert 1 - share == pytest.approx(terms / 1024, abs=4 * np.sqrt(2 * terms / 50) / 1024)


def test_pylinac_finds_the_same_spectrum() -> None:
    nps = pytest.importorskip("pylinac.core.nps", reason="pylinac is not installed: [test] has it")
    noise = white(20) + 40
    ours = noise_power(noise, (0.5, 0.5))
    theirs = nps.noise_power_spectrum_2d(0.5, list(noise))
    np.testing.assert_allclose(ours.power_hu2_mm2, theirs, rtol=1e-9, atol=1e-9)


def test_regions_that_are_too_small_or_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="4 pixels"):
        noise_power(np.zeros((5, 3, 8)), (1, 1))
    with pytest.raises(ValueError, match="finite"):
        noise_power(np.full((1, 8, 8), np.nan), (1, 1))
