import numpy as np
import pytest
from scipy import ndimage

from engine.scoring.residual import autocorrelation, edge_correlation

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
