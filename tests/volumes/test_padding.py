from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from volumes import nifti
from volumes.padding import padding, padding_of


def disc(shape, fraction=0.5):
    """The circular field of view of a slice: True inside."""
    z, y, x = shape
    rows, columns = np.mgrid[:y, :x]
    radius = np.hypot((rows - (y - 1) / 2) / y, (columns - (x - 1) / 2) / x)
    return np.broadcast_to(radius < fraction, (z, y, x))


@pytest.fixture(scope="module")
def body():
    """(3, 48, 64) float32 HU: tissue within noisy air, nothing of it padding."""
    rng = np.random.default_rng(0)
    hu = np.where(disc((3, 48, 64), 0.4), 40.0, -1000.0) + rng.normal(0, 10, (3, 48, 64))
    return hu.astype(np.float32)


@pytest.mark.parametrize("constant", [-901, -1000, -1024, -2000, -2048, -3024, -32768])
def test_a_constant_outside_a_circular_field_of_view_is_padding(body, constant):
    outside = ~disc(body.shape)
    hu = np.where(outside, np.float32(constant), np.clip(body, -1020, None))
    np.testing.assert_array_equal(padding(hu), outside)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float64, ">i2"])
def test_padding_is_found_for_every_datatype(body, dtype):
    outside = ~disc(body.shape)
    hu = np.where(outside, -2000, np.rint(body)).astype(dtype)
    np.testing.assert_array_equal(padding(hu), outside)


def test_measured_air_is_not_padding(body):
    assert not padding(body).any()


@pytest.mark.parametrize("constant", [-899, -500, -1, 0, 40, 3071, 32767])
def test_a_constant_denser_than_air_outside_the_field_of_view_is_padding(body, constant):
    outside = ~disc(body.shape)
    hu = np.where(outside, np.float32(constant), body)
    np.testing.assert_array_equal(padding(hu), outside)


def test_each_corner_may_have_a_value_of_its_own_or_none(body):
    outside = ~disc(body.shape)
    hu, wanted = body.copy(), np.zeros(body.shape, bool)
    rows, columns = np.mgrid[:48, :64]
    for value, part in ((0, (rows < 24) & (columns < 32)), (-1024, (rows < 24) & (columns >= 32)),
                        (500, (rows >= 24) & (columns < 32))):  # fmt: skip
        hu[outside & part] = value
        wanted |= outside & part
    np.testing.assert_array_equal(padding(hu), wanted)


@pytest.mark.parametrize("constant", [0, -1024, -1000, 3071])
def test_a_wedge_at_one_side_of_a_turned_scan_is_padding(body, constant):
    rows, columns = np.mgrid[:48, :64]
    wedge = np.broadcast_to(5 * rows + columns < 60, body.shape)
    hu = np.where(wedge, np.float32(constant), body)
    np.testing.assert_array_equal(padding(hu), wedge)


def test_constants_are_padding_around_the_air_of_a_scan_without_noise():
    inside, tissue = disc((2, 48, 64)), disc((2, 48, 64), 0.3)
    hu = np.where(inside, np.where(tissue, 40, -1000), 0)
    np.testing.assert_array_equal(padding(hu), ~inside)


@pytest.mark.parametrize("value", [0, 40])
def test_tissue_without_noise_that_fills_the_slice_is_measured(value):
    hu = np.where(disc((2, 48, 64), 0.2), 955, value)
    assert not padding(hu).any()
    hu[:, 10:12, 10:12] = -1000
    assert not padding(hu).any()


def test_a_region_of_fewer_than_32_voxels_in_a_corner_is_measured(body):
    hu = body.copy()
    hu[0, :5, :6] = hu[1, :4, :8] = 0
    found = padding(hu)
    assert not found[0].any()
    assert found[1].sum() == 32


def test_air_that_is_clipped_by_a_display_window_is_measured(body):
    assert not padding(np.clip(body, -160, 240)).any()


def test_the_black_corner_of_a_photograph_is_measured(body):
    grey = np.rint(np.clip(body + 1000, 0, 255))
    grey[:, :20, :20] = 0
    assert not padding(grey).any()


def test_a_slice_of_one_value_is_padding_among_slices_with_noise(body):
    hu = body.copy()
    hu[2] = 0
    np.testing.assert_array_equal(padding(hu), hu == 0)
    np.testing.assert_array_equal(padding_of(lambda stored: stored + 0.0, hu), hu == 0)


def test_a_slice_of_one_value_denser_than_air_is_measured_where_no_slice_has_noise():
    hu = np.where(disc((3, 48, 64), 0.3), 40, -900)
    hu[1] = 40
    assert not padding(hu)[1].any()


def test_a_corner_voxel_that_differs_leaves_no_padding(body):
    hu = np.where(disc(body.shape), body, np.float32(-1024))
    hu[:, 0, 0] = -1023
    assert not padding(hu).any()


def test_a_value_that_much_of_the_slice_has_elsewhere_is_measured(body):
    hu = np.where(disc(body.shape), body, np.float32(-1024))
    hu[:, :, 32:] = body[:, :, 32:]
    assert padding(hu).any()
    hu[:, 18:30, 20:40] = -1024
    assert not padding(hu).any()


def test_body_voxels_that_equal_the_constant_by_chance_are_not_padding(body):
    hu = np.where(disc(body.shape), body, np.float32(-1024))
    hu[:, 20:28, 20:40] = -1024  # gas in the bowel, clipped by the scanner
    assert not padding(hu)[:, 20:28, 20:40].any()


def test_voxels_at_the_edge_that_equal_the_constant_in_a_small_region_are_not_padding(body):
    hu = body.copy()
    hu[:, [0, 0, -1, -1], [0, -1, 0, -1]] = -1024  # as noise clipped at -1024 may have it
    assert not padding(hu).any()


def test_a_streak_clipped_at_the_constant_is_measured_though_it_reaches_the_edge(body):
    outside = ~disc(body.shape)
    hu = np.where(outside, np.float32(-1024), body)
    hu[:, :10, 29:35] = -1024  # from the middle of the upper edge, 2 % of the slice
    np.testing.assert_array_equal(padding(hu), outside)


def test_each_slice_is_examined_alone(body):
    outside = ~disc(body.shape)
    hu = body.copy()
    hu[1][outside[1]] = -1024
    found = padding(hu)
    np.testing.assert_array_equal(found[1], outside[1])
    assert not found[[0, 2]].any()


def test_a_slice_of_one_constant_is_all_padding():
    assert padding(np.full((2, 17, 19), -1000, np.int16)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_voxels_are_padding_wherever_they_lie(body, value):
    hu = body.copy()
    hu[1, 20:22, 30] = value
    hu[2, 0, 0] = value
    np.testing.assert_array_equal(padding(hu), ~np.isfinite(hu))


def test_a_corner_that_is_not_finite_leaves_the_padding_of_the_others(body):
    outside = ~disc(body.shape)
    hu = np.where(outside, np.float32(-1024), np.clip(body - 22, -1024, None))  # clipped air
    assert padding(hu)[outside].all()
    hu[:, :3, :3] = np.nan
    assert padding(hu)[outside].all()


def test_a_slice_without_one_finite_voxel_is_all_padding():
    assert padding(np.full((1, 5, 5), np.nan)).all()


@pytest.mark.parametrize("low", [-1500, -2000, -3024])
def test_regions_that_no_scanner_measures_are_padding_within_the_slice(body, low):
    hu = body.copy()
    hu[1, 10:20, 12:40] = low
    np.testing.assert_array_equal(padding(hu), hu == low)


def test_values_just_above_minus_1500_are_measured(body):
    hu = body.copy()
    hu[1, 10:20, 12:40] = -1499
    assert not padding(hu).any()


def test_two_constants_outside_the_field_of_view_are_both_padding(body):
    # As scanners pad the circle with one value and resampling pads the square with another.
    ring, corners = ~disc(body.shape, 0.48), ~disc(body.shape, 0.55)
    hu = np.where(ring, np.float32(-2000), body)
    hu[corners] = -3024
    np.testing.assert_array_equal(padding(hu), ring)


@pytest.mark.parametrize("sigma_hu", [140, 280, 420])
def test_no_isolated_voxel_of_strong_noise_in_air_is_padding(sigma_hu):
    hu = np.random.default_rng(1).normal(-1000, sigma_hu, (4, 128, 128))
    low = hu <= -1500
    eight = np.ones((1, 3, 3))
    eight[0, 1, 1] = 0
    alone = low & (ndimage.convolve(low.astype(int), eight.astype(int), mode="constant") == 0)
    assert alone.sum() > 10
    assert not padding(hu)[alone].any()


@pytest.mark.parametrize("place", [(0, 0), (0, 30), (47, 63), (20, 63), (24, 32)])
def test_a_single_low_voxel_is_noise_even_in_a_corner_or_at_an_edge(body, place):
    hu = body.copy()
    hu[(slice(None), *place)] = -1700
    assert not padding(hu).any()


def test_two_low_voxels_side_by_side_are_noise(body):
    hu = body.copy()
    hu[0, 24, 32:34] = hu[1, 0, 30:32] = hu[2, 46:48, 63] = -1700
    assert not padding(hu).any()


def test_noise_of_ten_percent_in_air_holds_no_padding():
    hu = np.random.default_rng(2).normal(-1000, 140, (4, 256, 256))
    assert (hu <= -1500).any()
    assert not padding(hu).any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 40), (3, 17, 1), (2, 2, 2)])
def test_slices_of_any_shape_are_examined(shape):
    assert padding(np.full(shape, -2000)).all()
    assert not padding(np.full(shape, 40)).any()


def test_the_volume_is_left_alone(body):
    before = body.copy()
    padding(body)
    np.testing.assert_array_equal(body, before)


@pytest.mark.real_ct
def test_padding_of_real_scans_is_as_low_as_air_and_lies_outside_the_body(real_ct):
    shares = []
    for path in sorted(real_ct.glob("*/imaging.nii.gz")):
        hu = nifti.open_scan(path).read_hu()
        hu = hu[::5]
        mask = padding(hu)
        shares.append(mask.mean())
        assert not mask[disc(hu.shape, 0.3)].any()
        assert (hu[mask] <= -1000).all()
    outside_the_circle = 1 - np.pi / 4
    assert max(shares) == pytest.approx(outside_the_circle, abs=0.02)
