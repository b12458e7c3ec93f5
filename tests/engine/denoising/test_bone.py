from functools import partial

import numpy as np
import pytest

from engine.denoising.bone import BoneWeight
from volumes import Window
from volumes.boxes import Box, read_box

SHAPE = (6, 20, 20)
MM = (3.0, 0.8, 0.8)
WINDOW = Window()


def weight(hu, estimate_hu=None, window=WINDOW, box=None, spacing_mm=MM, ceiling=10):
    """The kept share of a scan for which the network gives `estimate_hu`."""
    hu = np.asarray(hu, np.float32)
    estimate_hu = np.minimum(hu, 400) if estimate_hu is None else estimate_hu
    box = box or Box((0, 0, 0), hu.shape)
    keep = BoneWeight(window, spacing_mm)
    place = keep.around(box)
    seen = read_box(np.minimum(window.unit(hu), np.float32(ceiling)), place)
    estimate = window.unit(estimate_hu)[box.slices]
    return keep.weight(seen, estimate, lambda: read_box(hu, place))


def flat(hu):
    return np.full(SHAPE, hu, np.float32)


@pytest.mark.parametrize("hu", [-3000, -1000, 0, 60, 200])
def test_nothing_within_the_window_is_kept(hu):
    assert (weight(flat(hu)) == 0).all()


@pytest.mark.parametrize("hu", [600, 1200, 3071])
def test_all_above_the_window_is_kept(hu):
    assert (weight(flat(hu)) == 1).all()


def test_above_the_window_no_bad_estimate_counts():
    assert (weight(flat(1200), estimate_hu=flat(-1000)) == 1).all()


def test_in_tissue_no_bad_estimate_counts():
    assert (weight(flat(60), estimate_hu=flat(400)) == 0).all()


def test_near_the_window_s_end_the_estimate_decides():
    assert (weight(flat(320), estimate_hu=flat(400)) == 1).all()
    assert (weight(flat(320), estimate_hu=flat(250)) == 0).all()


def test_a_spike_of_noise_is_not_kept():
    hu = flat(60)
    hu[3, 10, 10] = 800
    assert weight(hu, estimate_hu=flat(60)).max() < 0.01


@pytest.mark.parametrize("ceiling", [1.0, 1.06, 1.3, 10])
def test_a_wire_beside_air_is_kept_however_low_the_input_of_the_network_is_clipped(ceiling):
    hu = flat(-1000)
    hu[3, 10, 10:12] = 1800, 3000
    found = weight(hu, estimate_hu=flat(-1000), ceiling=ceiling)
    assert (found[3, 10, 10:12] == 1).all()
    assert np.count_nonzero(found > 0.5) == 2
    hu[3, 10, 11] = -1000
    assert weight(hu, estimate_hu=flat(-1000), ceiling=ceiling).max() < 0.01


def test_the_scan_itself_is_read_only_where_it_may_hold_metal():
    keep = BoneWeight(WINDOW, MM)
    around = read_box(WINDOW.unit(flat(60)), keep.around(Box((0, 0, 0), SHAPE)))
    assert not keep.weight(around, WINDOW.unit(flat(60)), lambda: pytest.fail("was read")).any()


def test_the_rim_of_bone_is_kept_without_a_step():
    ramp = np.linspace(0, 900, 181)
    found = weight(np.broadcast_to(ramp, (4, 9, 181)))[2, 4]
    assert found[0] == 0
    assert found[-1] == 1
    assert (np.diff(found) >= 0).all()
    assert np.diff(found).max() < 0.15  # of 5 HU


def test_bone_is_kept_from_a_network_trained_without_clipping_too():
    linear = Window(clip=False)
    assert (weight(flat(1200), estimate_hu=flat(1100), window=linear) == 1).all()


def test_a_part_of_a_scan_is_treated_like_the_whole():
    rng = np.random.default_rng(0)
    hu = np.where(np.arange(20) < 10, 100, 800) + rng.normal(0, 140, SHAPE)
    whole = weight(hu)
    assert 0 < whole.mean() < 1
    for start in ((0, 0, 0), (2, 7, 5), (3, 12, 12)):
        box = Box(start, (3, 8, 8))
        np.testing.assert_allclose(weight(hu, box=box), whole[box.slices], atol=1e-6)


def test_distant_slices_count_less_than_near_ones():
    hu = flat(60)
    hu[2] = 700
    near, far = (weight(hu, flat(60), spacing_mm=(z, 1.0, 1.0))[2].mean() for z in (1.0, 5.0))
    assert far > near


def test_the_mean_is_computed_only_where_it_can_matter():
    hu = np.random.default_rng(0).normal(-50, 60, (7, 40, 50)).astype(np.float32)
    hu[2:4, 10:18, 30:39] += 700
    keep, window = BoneWeight(WINDOW, (1.0, 0.8, 0.8)), WINDOW
    around = read_box(window.unit(hu), keep.around(Box((0, 0, 0), hu.shape)))
    own_hu = partial(read_box, hu, keep.around(Box((0, 0, 0), hu.shape)))
    found = keep.weight(around, window.unit(hu), own_hu)
    whole = read_box(window.unit(hu), keep.around(Box((0, 0, 0), hu.shape)))
    whole[0, 0, 0] = whole[-1, -1, -1] = 1e3  # corners that decide about no voxel but the last ones
    expected = keep.weight(whole, window.unit(hu), own_hu)
    assert (found[2:4, 10:18, 30:39] > 0).any()
    assert np.array_equal(found[1:-1, 1:-1, 1:-1], expected[1:-1, 1:-1, 1:-1])
    assert keep._undecided(around).shape < keep._undecided(whole).shape == hu.shape
