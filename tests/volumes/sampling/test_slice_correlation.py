import numpy as np
import pytest

from volumes.sampling.slice_correlation import slice_correlation


def scan(depth=20, seed=0):
    """Independent noise of 20 HU on an edge between two tissues."""
    hu = np.random.default_rng(seed).normal(0, 20, (depth, 64, 65))
    hu[..., 30:] += 60
    return hu


def test_independent_slices_do_not_correlate():
    assert abs(slice_correlation(scan(), 1)) < 0.03


@pytest.mark.parametrize(("apart", "shared"), [(1, 2 / 3), (2, 1 / 3), (3, 0)])
def test_overlapping_slices_share_the_noise_of_their_overlap(apart, shared):
    thin = scan()
    thick = np.rint((thin[:-2] + thin[1:-1] + thin[2:]) / 3).astype(np.int16)
    assert slice_correlation(thick, apart) == pytest.approx(shared, abs=0.03)


def test_the_edges_of_organs_do_not_count():
    hu = scan()
    hu[:, 20:40:7] = -120  # in every slice, against 0 around it
    assert abs(slice_correlation(hu, 1)) < 0.05


@pytest.mark.parametrize("hu", [scan() - 900, scan(1), np.zeros((9, 64, 64), np.int16)])
def test_nothing_is_said_of_air_of_single_slices_or_of_a_constant(hu):
    assert np.isnan(slice_correlation(hu, 1))
