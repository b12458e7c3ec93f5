"""The channelised Hotelling observer: closed forms in white noise."""

import math

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from engine.characterization.hotelling import (
    area_under_roc,
    channel_outputs,
    hotelling,
    laguerre_gauss,
)
from volumes import random_draws
from volumes.phantoms.quality_phantoms import CCT189
from volumes.phantoms.rods import Rod

PIXEL_MM, SIDE, SIGMA_HU = 0.5, 41, 25.0


def images(count: int, *key: str) -> np.ndarray:
    rng = random_draws.rng(0, "test of the observers", *key)
    return SIGMA_HU * rng.standard_normal((count, SIDE, SIDE))


def outputs(signal: np.ndarray | float, count: int, diameter_mm: float = 7.0):
    channels = laguerre_gauss(SIDE, PIXEL_MM, diameter_mm)
    with_signal = images(count, "present") + signal
    return channel_outputs(with_signal, channels), channel_outputs(images(count, "a"), channels)


def first_channel(peak_hu: float, diameter_mm: float = 7.0) -> np.ndarray:
    at = (np.arange(SIDE) - (SIDE - 1) / 2) * PIXEL_MM
    away = at[:, None] ** 2 + at**2
    return peak_hu * np.exp(-np.pi * away / (2 / 3 * diameter_mm) ** 2)


def test_the_hotelling_observer_reaches_the_ideal_one_for_a_signal_in_its_channels() -> None:
    signal = first_channel(6.0)
    found = hotelling(*outputs(signal, 2000), 0, "white")
    # The ideal observer does not see the mean of the region either.
    ideal = math.sqrt(((signal - signal.mean()) ** 2).sum()) / SIGMA_HU
    # 1000 images of each kind test: the error of d' is about sqrt(2 / 1000 (1 + d'^2 / 4)) = 0.05,
    # and the mean over readers has less. Training on 1000 costs below 1 %.
    assert found.d_prime == pytest.approx(ideal, abs=0.1)
    assert found.auc == pytest.approx(stats.norm.cdf(ideal / math.sqrt(2)), abs=0.02)
    assert found.auc_interval[0] < found.auc < found.auc_interval[1]
    assert found.d_interval[0] < ideal < found.d_interval[1]


def test_without_a_signal_the_auc_is_a_half_on_new_images_and_more_on_those_of_the_training() -> (
    None
):
    found = hotelling(*outputs(0.0, 60), 0, "nothing")
    # 30 images of each kind test: the standard error of the AUC is 0.075 for one reader.
    assert found.auc == pytest.approx(0.5, abs=0.15)
    assert found.resubstituted_auc > 0.55


def test_a_signal_beyond_the_channels_is_not_seen() -> None:
    checks = np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 60.0
    found = hotelling(*outputs(checks, 400), 0, "checks")
    assert found.auc == pytest.approx(0.5, abs=0.06)


def test_two_methods_of_one_key_are_read_with_the_same_splits_and_resamples() -> None:
    present, absent = outputs(first_channel(6.0), 40)
    one, other = (hotelling(scale * present, scale * absent, 0, "k") for scale in (1.0, 3.0))
    np.testing.assert_allclose(one.auc_samples, other.auc_samples)
    assert one.auc == other.auc
    assert hotelling(present, absent, 0, "another").auc != one.auc


def mixed(count: int, reach: int, *key: object) -> np.ndarray:
    """Outputs of a method that averages neighbouring slices."""
    rng = random_draws.rng(0, "mixed images", *key)
    alone = rng.standard_normal((count + 2 * reach, 5))
    return np.stack([alone[i : i + 2 * reach + 1].mean(axis=0) for i in range(count)])


def test_images_that_share_noise_show_no_signal_that_is_not_there(monkeypatch) -> None:
    # Intervals are not looked at.
    monkeypatch.setattr("engine.characterization.hotelling._RESAMPLES", 1)
    found, split_at_random = (
        [
            hotelling(mixed(189, 4, "p", i), mixed(189, 4, "a", i), i, "mixed", reach=reach).auc
            for i in range(30)
        ]
        for reach in (4, 0)
    )
    # One AUC scatters by 0.1, their mean by 0.02.
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)
    assert np.mean(split_at_random) > 0.6


def test_the_interval_of_images_that_share_noise_is_that_of_their_blocks() -> None:
    present, absent = mixed(189, 4, "p"), mixed(189, 4, "a")
    low, high = hotelling(present, absent, 0, "mixed", reach=4).auc_interval
    alone = hotelling(mixed(189, 0, "p"), mixed(189, 0, "a"), 0, "mixed").auc_interval
    # 189 images of 9 slices each tell as much as 21 do: three times the error.
    assert high - low > 2.2 * (alone[1] - alone[0])


def test_too_few_images_are_refused() -> None:
    present, absent = outputs(0.0, 7)
    with pytest.raises(ValueError, match="8 images"):
        hotelling(present, absent, 0)
    with pytest.raises(ValueError, match="189 images"):
        hotelling(mixed(188, 4), mixed(188, 4), 0, reach=4)


def test_the_area_under_the_roc_counts_pairs() -> None:
    rng = random_draws.rng(0, "test of the observers", "roc")
    one, other = rng.integers(0, 5, 30), rng.integers(0, 5, 20)
    counted = np.mean((one[:, None] > other) + 0.5 * (one[:, None] == other))
    assert area_under_roc(one, other) == pytest.approx(counted)


@pytest.mark.real_ct
def test_the_fda_reconstructions_show_more_at_full_dose_than_at_a_tenth(real_ct) -> None:
    folder = real_ct.parent / "phantoms"
    if not folder.is_dir():
        pytest.skip(f"{folder} with the reconstructions of CCT189 of LCD-CT does not exist")
    pixel_mm = 200 / 232  # the cylinder is 232 pixels wide
    mean = {}
    for dose in ("010", "100"):
        path = folder / f"lcd_fbp_dose{dose}_signal_present.nii.gz"
        images = np.asarray(nib.load(path).dataobj, np.float64)  # ten realisations
        channels = {
            rod.diameter_mm: laguerre_gauss(35, pixel_mm, rod.diameter_mm) for rod in CCT189.rods
        }
        # There are no images without rods: the same circle has no rods at 0, 90, 180, 270 degrees.
        empty = [
            images[:, y, x]
            for y, x in (
                Rod("empty", 40 * dx, 40 * dy, 10, 0).region(256, pixel_mm, 30.0)
                for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))
            )
        ]
        found = []
        for rod in CCT189.rods:
            y, x = rod.region(256, pixel_mm, 30.0)
            present = channel_outputs(images[:, y, x], channels[rod.diameter_mm])
            absent = channel_outputs(np.concatenate(empty), channels[rod.diameter_mm])
            found.append(hotelling(present, absent, 0, rod.name).auc)
        mean[dose] = np.mean(found)
    # Five images of each rod train and five test: each AUC has a standard error of about 0.1, the
    # mean of four half of it. A tenth of the dose takes d' down by a factor of 3.
    assert mean["100"] > mean["010"] + 0.05
    assert mean["100"] > 0.65
