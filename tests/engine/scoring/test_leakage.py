import numpy as np
import pytest
from scipy import ndimage

from engine.scoring.residual import (
    alike,
    autocorrelation,
    describe_residual,
    edge_correlation,
    leak_warnings,
)
from tests.engine.tiny import scan_file
from volumes import nifti

SHAPE = (5, 48, 40)


@pytest.fixture
def scan(tmp_path):
    return nifti.open_scan(scan_file(tmp_path / "scan.nii", np.zeros(SHAPE, "<f4")))


@pytest.fixture
def anatomy():
    y, x = np.mgrid[:48, :40]
    disc = 60.0 * ((y - 20) ** 2 + (x - 18) ** 2 < 120) + 30.0 * (y > 36)
    return np.broadcast_to(disc, SHAPE).astype(np.float32)


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(5, 20, SHAPE).astype(np.float32)


def found(scan, anatomy, residual, padding=None):
    padding = np.zeros(SHAPE, bool) if padding is None else padding
    return describe_residual(scan, anatomy + residual, anatomy, padding)


def test_white_noise_leaks_nothing(scan, anatomy, noise):
    told = found(scan, anatomy, noise)
    assert told["autocorrelation"] == pytest.approx(0, abs=0.03)
    assert told["at_edges"] == pytest.approx(0, abs=0.03)
    assert told["with_anatomy"] == pytest.approx(0, abs=0.03)
    assert leak_warnings(told) == []


def test_what_it_says_is_what_the_whole_residual_says(scan, anatomy, noise):
    residual = ndimage.gaussian_filter(noise, (0, 1, 1)) + 0.2 * anatomy
    told = found(scan, anatomy, residual)
    residual = (anatomy + residual) - anatomy
    assert told["mean_hu"] == pytest.approx(residual.mean(), abs=2e-3)
    assert told["std_hu"] == pytest.approx(residual.std(), abs=2e-3)
    assert told["max_hu"] == pytest.approx(np.abs(residual).max(), abs=1e-3)
    assert told["autocorrelation"] == pytest.approx(autocorrelation(residual), abs=5e-3)
    assert told["at_edges"] == pytest.approx(edge_correlation(residual, anatomy), abs=1e-3)
    wanted = np.corrcoef(residual.ravel(), anatomy.ravel())[0, 1]
    assert told["with_anatomy"] == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("share", [0.3, -0.3])
def test_removed_or_invented_anatomy_is_reported(scan, anatomy, noise, share):
    told = found(scan, anatomy, noise + share * anatomy)
    assert told["with_anatomy"] * share > 0
    (warning,) = leak_warnings(told)
    assert "correlates with the anatomy" in warning


def test_blurred_edges_are_reported(scan, anatomy, noise):
    told = found(scan, ndimage.gaussian_filter(anatomy, (0, 1, 1)), noise / 20 + anatomy * 0)
    assert leak_warnings(told) == []
    blurred = ndimage.gaussian_filter(anatomy, (0, 1, 1))
    told = found(scan, blurred, anatomy - blurred + noise / 4)
    (warning,) = leak_warnings(told)
    assert "edges" in warning


def test_noise_that_was_left_in_at_edges_is_no_leak(scan, anatomy, noise):
    edge = ndimage.gaussian_gradient_magnitude(anatomy, (0, 1, 1)) > 2
    told = found(scan, anatomy, np.where(edge, 0, noise - noise.mean()))
    assert told["at_edges"] < -0.1
    assert leak_warnings(told) == []


def test_padding_is_left_out(scan, anatomy, noise):
    padding = np.zeros(SHAPE, bool)
    padding[:, :10] = True
    told = found(scan, anatomy, noise, padding)
    spoiled = noise.copy()
    spoiled[padding] = np.nan
    assert found(scan, anatomy, spoiled, padding) == told
    assert told["mean_hu"] == pytest.approx(noise[~padding].mean(), abs=2e-3)


def test_nothing_but_padding_says_nothing(scan, anatomy, noise):
    told = found(scan, anatomy, noise, np.ones(SHAPE, bool))
    assert set(told.values()) == {0.0}


def test_no_change_says_nothing(scan, anatomy, noise):
    assert set(found(scan, anatomy, 0 * noise).values()) == {0.0}


def test_descriptions_are_alike_but_for_rounding(scan, anatomy, noise):
    told = found(scan, anatomy, noise)
    assert alike(told, told)
    assert alike({**told, "mean_hu": told["mean_hu"] + 1e-3}, told)
    assert not alike({**told, "mean_hu": told["mean_hu"] + 1e-2}, told)
    assert not alike({**told, "mean_hu": "5"}, told)
    assert not alike({}, told)
