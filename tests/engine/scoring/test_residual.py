import numpy as np
import pytest
from scipy import ndimage

from engine.scoring.residual import (
    ResidualStatistics,
    alike,
    autocorrelation,
    describe_residual,
    edge_correlation,
    leak_warnings,
)
from tests.engine.tiny import scan_file
from volumes import nifti

SHAPE = (4, 64, 64)


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal(SHAPE, np.float32)


@pytest.fixture
def discs():
    """Two discs a slice, whose edges are few."""
    y, x = np.mgrid[:64, :64]
    disc = ((y - 24) ** 2 + (x - 24) ** 2 < 150) + 0.5 * ((y - 45) ** 2 + (x - 44) ** 2 < 90)
    return np.broadcast_to(disc, SHAPE).astype(np.float32)


def edges(clean):
    return np.hypot(ndimage.sobel(clean, axis=1), ndimage.sobel(clean, axis=2))


# -- Neighbours ------------------------------------------------------------------------------------


def test_white_noise_has_no_autocorrelation(noise):
    assert autocorrelation(noise) == pytest.approx(0, abs=0.02)


def test_a_smooth_field_is_correlated_with_its_neighbours(noise):
    smooth = ndimage.gaussian_filter(noise, (0, 4, 4))
    assert autocorrelation(smooth) > 0.95


def test_a_chessboard_is_anticorrelated():
    _, y, x = np.indices(SHAPE)
    assert autocorrelation(((y + x) % 2).astype(np.float32)) == pytest.approx(-1, abs=1e-3)


def test_stripes_are_correlated_along_one_axis_alone():
    stripes = np.broadcast_to(np.arange(64) % 2, SHAPE).astype(np.float32)
    assert autocorrelation(stripes) == pytest.approx(0, abs=1e-3)  # 1 along Y, -1 along X


def test_neighbouring_slices_do_not_count(noise):
    same = np.repeat(noise[:1], 4, axis=0)
    assert autocorrelation(same) == pytest.approx(autocorrelation(noise[:1]), abs=1e-6)


def test_a_constant_and_a_scale_do_not_change_the_autocorrelation(noise):
    smooth = ndimage.gaussian_filter(noise, (0, 1, 1))
    assert autocorrelation(3 * smooth + 5) == pytest.approx(autocorrelation(smooth), abs=1e-4)


def test_nothing_removed_is_correlated_with_nothing():
    assert autocorrelation(np.zeros(SHAPE, np.float32)) == 0


# -- Edges -----------------------------------------------------------------------------------------


def test_noise_alone_does_not_follow_edges(noise, discs):
    assert edge_correlation(noise, discs) == pytest.approx(0, abs=0.03)


def test_a_residual_that_is_the_edges_follows_them(discs):
    assert edge_correlation(edges(discs), discs) == pytest.approx(1, abs=1e-5)


def test_edges_within_noise_are_found(noise, discs):
    assert edge_correlation(0.1 * noise + 0.1 * edges(discs), discs) > 0.5


def test_the_sign_of_what_is_lost_at_edges_does_not_matter(noise, discs):
    signs = np.sign(noise)
    assert edge_correlation(signs * edges(discs), discs) == pytest.approx(1, abs=1e-5)


def test_a_blurred_image_is_seen_at_its_edges(noise, discs):
    noisy = discs + 0.1 * noise
    removed = noisy - ndimage.gaussian_filter(discs, (0, 2, 2))
    assert edge_correlation(removed, discs) > 0.3


def test_edges_between_slices_do_not_count(noise):
    steps = np.broadcast_to(np.arange(4.0)[:, None, None], SHAPE).astype(np.float32)
    assert edge_correlation(np.abs(noise) + steps, steps) == 0


def test_an_image_without_edges_is_followed_by_nothing(noise):
    assert edge_correlation(noise, np.ones(SHAPE, np.float32)) == 0


# -- Of a denoised scan ----------------------------------------------------------------------------

SCAN_SHAPE = (5, 48, 40)


@pytest.fixture
def scan(tmp_path):
    return nifti.open_scan(scan_file(tmp_path / "scan.nii", np.zeros(SCAN_SHAPE, "<f4")))


@pytest.fixture
def anatomy():
    y, x = np.mgrid[:48, :40]
    disc = 60.0 * ((y - 20) ** 2 + (x - 18) ** 2 < 120) + 30.0 * (y > 36)
    return np.broadcast_to(disc, SCAN_SHAPE).astype(np.float32)


@pytest.fixture
def noise_hu():
    return np.random.default_rng(0).normal(5, 20, SCAN_SHAPE).astype(np.float32)


def found(scan, anatomy, residual, padding=None):
    padding = np.zeros(SCAN_SHAPE, bool) if padding is None else padding
    return describe_residual(scan, anatomy + residual, anatomy, padding)


def test_white_noise_leaks_nothing(scan, anatomy, noise_hu):
    told = found(scan, anatomy, noise_hu)
    assert told["autocorrelation"] == pytest.approx(0, abs=0.03)
    assert told["at_edges"] == pytest.approx(0, abs=0.03)
    assert told["with_anatomy"] == pytest.approx(0, abs=0.03)
    assert leak_warnings(told) == []


def test_what_it_says_is_what_the_whole_residual_says(scan, anatomy, noise_hu):
    residual = ndimage.gaussian_filter(noise_hu, (0, 1, 1)) + 0.2 * anatomy
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
def test_removed_or_invented_anatomy_is_reported(scan, anatomy, noise_hu, share):
    told = found(scan, anatomy, noise_hu + share * anatomy)
    assert told["with_anatomy"] * share > 0
    (warning,) = leak_warnings(told)
    assert "correlates with the anatomy" in warning


def test_blurred_edges_are_reported(scan, anatomy, noise_hu):
    told = found(scan, ndimage.gaussian_filter(anatomy, (0, 1, 1)), noise_hu / 20 + anatomy * 0)
    assert leak_warnings(told) == []
    blurred = ndimage.gaussian_filter(anatomy, (0, 1, 1))
    told = found(scan, blurred, anatomy - blurred + noise_hu / 4)
    (warning,) = leak_warnings(told)
    assert "edges" in warning


def test_noise_that_was_left_in_at_edges_is_no_leak(scan, anatomy, noise_hu):
    edge = ndimage.gaussian_gradient_magnitude(anatomy, (0, 1, 1)) > 2
    told = found(scan, anatomy, np.where(edge, 0, noise_hu - noise_hu.mean()))
    assert told["at_edges"] < -0.1
    assert leak_warnings(told) == []


def test_padding_is_left_out(scan, anatomy, noise_hu):
    padding = np.zeros(SCAN_SHAPE, bool)
    padding[:, :10] = True
    told = found(scan, anatomy, noise_hu, padding)
    spoiled = noise_hu.copy()
    spoiled[padding] = np.nan
    assert found(scan, anatomy, spoiled, padding) == told
    assert told["mean_hu"] == pytest.approx(noise_hu[~padding].mean(), abs=2e-3)


def test_nothing_but_padding_says_nothing(scan, anatomy, noise_hu):
    told = found(scan, anatomy, noise_hu, np.ones(SCAN_SHAPE, bool))
    assert set(told.values()) == {0.0}


def test_no_change_says_nothing(scan, anatomy, noise_hu):
    assert set(found(scan, anatomy, 0 * noise_hu).values()) == {0.0}


def test_descriptions_are_alike_but_for_rounding(scan, anatomy, noise_hu):
    told = found(scan, anatomy, noise_hu)
    assert alike(told, told)
    assert alike({**told, "mean_hu": told["mean_hu"] + 1e-3}, told)
    assert not alike({**told, "mean_hu": told["mean_hu"] + 1e-2}, told)
    assert not alike({**told, "mean_hu": "5"}, told)
    assert not alike({}, told)


def test_the_order_of_the_slices_changes_no_digit(scan, anatomy, noise_hu):
    padding = np.zeros(SCAN_SHAPE, bool)
    padding[1, :, 30:] = True
    expected = found(scan, anatomy, noise_hu, padding)
    statistics = ResidualStatistics(len(anatomy))
    for z in (3, 0, 4, 2, 1):
        statistics.add(z, anatomy[z] + noise_hu[z], anatomy[z], padding[z])
    assert statistics.summary() == expected


@pytest.mark.parametrize("height", [1, 2, 63, 64, 65, 66, 129, 200])
def test_rows_are_joined_without_a_seam(height):
    rng = np.random.default_rng(height)
    image, residual = rng.normal(0, 50, (2, 1, height, 30)).astype(np.float32)
    padding = rng.random((1, height, 30)) < 0.1
    statistics = ResidualStatistics(1)
    before = image + residual
    residual = before - image
    statistics.add(0, before[0], image[0], padding[0])
    measured = ~padding
    whole = np.where(padding, np.float32(-1000), image)
    told = statistics.summary()
    assert told["mean_hu"] == pytest.approx(residual[measured].mean(), abs=2e-3)
    assert told["std_hu"] == pytest.approx(residual[measured].std(), abs=2e-3)
    assert told["autocorrelation"] == round(autocorrelation(residual, measured), 4)
    assert told["at_edges"] == round(edge_correlation(residual, whole, measured), 4)
    expected = [np.abs(residual)[measured], edges(whole)[measured]]
    assert told["at_edges"] == pytest.approx(np.corrcoef(*expected)[0, 1], abs=1e-4)


def test_absurd_values_spoil_no_statistics(scan, anatomy, noise_hu):
    absurd = anatomy.copy()
    absurd[2, 5, 5] = 1e30
    told = found(scan, absurd, 0 * noise_hu)
    assert set(told.values()) == {0.0}
    assert np.isfinite(list(found(scan, absurd, noise_hu).values())).all()
