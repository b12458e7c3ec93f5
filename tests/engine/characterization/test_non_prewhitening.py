"""Non-prewhitening observers: closed forms in white noise."""

import math

import numpy as np
import pytest

from engine.characterization.non_prewhitening import eye_filter, non_prewhitening
from engine.characterization.task_transfer import TaskTransfer
from engine.scoring.noise_power import NoisePower

PIXEL_MM, SIGMA_HU = 0.5, 25.0


def white(power: float = SIGMA_HU**2 * PIXEL_MM**2) -> NoisePower:
    return NoisePower(np.full((64, 64), power), (PIXEL_MM, PIXEL_MM), 1)


def sharp() -> TaskTransfer:
    frequency = np.arange(0, 1 / PIXEL_MM, 0.01)
    return TaskTransfer(frequency, np.ones_like(frequency), 10.0, math.inf)


def test_without_blur_white_noise_lets_the_observer_be_the_ideal_one() -> None:
    # d' of the matched filter: contrast * sqrt(area) / (sigma * pixel).
    wanted = 3 * math.sqrt(math.pi * 5**2) / (SIGMA_HU * PIXEL_MM)
    # The integral ends at the Nyquist frequency of 1 / mm: 1.1 % of the disc's energy lies beyond.
    assert non_prewhitening(white(), sharp(), 10.0, 3.0) == pytest.approx(wanted, rel=0.012)


def test_detectability_grows_with_contrast_and_falls_with_the_root_of_noise_power() -> None:
    one = non_prewhitening(white(), sharp(), 5.0, 7.0, eye=True)
    assert non_prewhitening(white(), sharp(), 5.0, 14.0, eye=True) == pytest.approx(2 * one)
    four = white(4 * SIGMA_HU**2 * PIXEL_MM**2)
    assert non_prewhitening(four, sharp(), 5.0, 7.0, eye=True) == pytest.approx(one / 2)


def test_the_eye_is_most_sensitive_at_four_cycles_a_degree() -> None:
    frequency = np.linspace(0.01, 2, 2000)
    peak = 4 / (500 * math.radians(1))
    assert frequency[np.argmax(eye_filter(frequency))] == pytest.approx(peak, abs=0.002)
    assert eye_filter(np.array([peak])).item() == pytest.approx(1)
    assert eye_filter(np.array([0.0])).item() == 0
