import math

import numpy as np
import pytest

from engine.scoring.hu_fidelity import hu_fidelity, outside
from engine.scoring.tissue_classes import TISSUE_HU
from volumes import random_draws

HU_OF = {"air": -1000, "lung": -800, "fat": -100, "soft_tissue": 50, "bone": 250}


@pytest.fixture
def clean() -> np.ndarray:
    """(1, 9, 40) int16 HU: air around the body; in its middle row each tissue for 6 pixels."""
    hu = np.full((1, 9, 40), -1000, np.int16)
    hu[:, 1:8, 1:39] = 50
    for i, value in enumerate(HU_OF.values()):
        hu[0, 3:6, 4 + 6 * i : 10 + 6 * i] = value
    return hu


def found(clean, estimate, measured=None, highest_hu=400.0):
    measured = np.ones(clean.shape, bool) if measured is None else measured
    return hu_fidelity(clean, estimate.astype(np.float32), measured, highest_hu)


@pytest.mark.parametrize("tissue", TISSUE_HU)
def test_a_shift_of_one_tissue_is_that_of_its_class_alone(clean, tissue):
    estimate = clean + np.where(clean == HU_OF[tissue], 7, 0)
    shifts = {name: found(clean, estimate)[f"shift_{name}_hu"] for name in TISSUE_HU}
    assert shifts == pytest.approx({name: 7.0 * (name == tissue) for name in TISSUE_HU})


def test_noise_around_the_truth_is_no_shift(clean):
    noise = random_draws.rng(0, "shift").standard_normal(clean.shape)
    noise -= noise[clean == 50].mean()
    assert found(clean, clean + 20 * noise)["shift_soft_tissue_hu"] == pytest.approx(0, abs=1e-4)


def test_padding_and_what_the_window_cuts_are_left_out(clean):
    clean[0, 4, 28:34] = 900  # bone above the window
    estimate = np.minimum(clean, 400)
    assert found(clean, estimate)["shift_bone_hu"] == 0
    measured = np.ones(clean.shape, bool)
    measured[0, :2] = False
    padded = np.where(measured, estimate, 3000)
    assert found(clean, padded, measured) == found(clean, estimate, measured)


def test_a_class_without_voxels_has_no_shift(clean):
    clean[clean == HU_OF["lung"]] = 50
    assert math.isnan(found(clean, clean)["shift_lung_hu"])


def test_voxels_that_cross_a_threshold_are_counted_within_the_patient(clean):
    inside = 7 * 38
    estimate = clean.astype(np.float32)
    estimate[0, 4, 20] = 131  # soft tissue seems calcified
    estimate[0, 4, 30] = 129  # bone does not
    estimate[0, 0, 0] = -900  # air around the patient
    estimate[0, 4, 12] = -951  # lung seems emphysematous
    told = found(clean, estimate)
    assert told["crossing_130_hu_percent"] == pytest.approx(100 * 2 / inside)
    assert told["crossing_minus_950_hu_percent"] == pytest.approx(100 * 1 / inside)


def test_a_threshold_above_the_window_is_not_counted(clean):
    assert math.isnan(found(clean, clean, highest_hu=100.0)["crossing_130_hu_percent"])


def test_air_within_the_patient_is_inside(clean):
    mask = outside(clean)
    assert mask.sum() == 9 * 40 - 7 * 38
    clean[0, 4, :5] = -1000  # a channel to the border
    assert outside(clean)[0, 4, 5]
