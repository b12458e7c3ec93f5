import numpy as np
import pytest
from scipy import ndimage

from engine.scoring.case_images import CaseImages
from engine.scoring.removed_noise import AddedNoise
from volumes import random_draws

SPACING_MM = (3.0, 0.5, 0.5)
WIDTH_HU = 1400


def images(shape=(4, 96, 96), sigma=0.05, within=None):
    clean = np.full(shape, 0.75, np.float32)
    noise = random_draws.rng(0, "removed noise").standard_normal(shape, np.float32)
    within = np.ones(shape, bool) if within is None else within
    hu = np.full(shape, 50, np.int16)
    return CaseImages(hu, clean, clean + np.float32(sigma) * noise, ~within, within)


def beside(given, estimate):
    return AddedNoise(given, SPACING_MM, WIDTH_HU).beside(estimate)


def test_the_added_noise_has_the_power_of_its_sigma_and_an_oracle_removes_it_all():
    given = images()
    found = beside(given, given.clean)
    assert found.regions == 4 * 9
    assert found.removed_hu2_mm2 == found.added_hu2_mm2
    white = (0.05 * WIDTH_HU) ** 2 * 0.5 * 0.5
    assert np.mean(found.added_hu2_mm2) == pytest.approx(white, rel=0.05)
    assert found.frequency_per_mm[-1] == pytest.approx(1.0, rel=0.05)  # Nyquist


def test_the_untouched_scan_has_lost_nothing():
    given = images()
    assert not any(beside(given, given.noisy).removed_hu2_mm2)


def test_a_blur_removes_what_is_fast_and_leaves_what_is_slow():
    given = images()
    blurred = ndimage.gaussian_filter(given.noisy, (0, 1.5, 1.5))
    found = beside(given, blurred)
    share = np.divide(found.removed_hu2_mm2, found.added_hu2_mm2)
    assert share[0] < 0.1
    assert share[-1] > 0.9


def test_anatomy_that_was_removed_stands_above_the_noise():
    given = images()
    y = np.arange(96)[:, None]
    wave = np.float32(0.05) * np.cos(2 * np.pi * y / 8)  # 8 pixels of 0.5 mm: 0.25 per mm
    found = beside(given, given.clean - wave)
    ratio = np.divide(found.removed_hu2_mm2, found.added_hu2_mm2)
    assert found.frequency_per_mm[int(np.argmax(ratio))] == pytest.approx(0.25, abs=0.05)
    assert ratio.max() > 3


def test_regions_lie_in_the_window():
    within = np.zeros((4, 96, 96), bool)
    within[:, 40:80, 40:90] = True
    given = images(within=within)
    given.noisy[~within] = 100
    found = beside(given, given.clean)
    white = (0.05 * WIDTH_HU) ** 2 * 0.5 * 0.5
    assert np.mean(found.added_hu2_mm2) == pytest.approx(white, rel=0.25)
    assert len(found.frequency_per_mm) == 8  # of 16 pixels: 32 fit nowhere


def test_without_a_region_or_a_finite_estimate_there_is_no_spectrum():
    given = images(shape=(2, 6, 6))
    assert beside(given, given.clean) is None
    given = images(within=np.zeros((4, 96, 96), bool))
    assert beside(given, given.clean) is None
    given = images()
    assert beside(given, np.full_like(given.clean, np.nan)) is None
