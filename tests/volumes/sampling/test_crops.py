from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from volumes.boxes import Box, read_box, reflected, resampled
from volumes.sampling.crops import Crop, Cut, Pose

VOLUME = (24, 60, 50)


def boxes(crop, volume, count=300):
    rng = np.random.default_rng(0)
    return [crop.draw(volume, rng) for _ in range(count)]


@pytest.mark.parametrize("central", [0.3, 0.7, 0.8, 1.0])
def test_crops_are_within_the_central_part_and_reach_its_edges(central):
    crop = Crop((8, 12, 10), central)
    starts = np.array([box.start for box, _ in boxes(crop, VOLUME)])
    ends = starts + crop.shape
    for axis, size in ((1, 60), (2, 50)):
        margin = (size - size * central) / 2
        assert starts[:, axis].min() == pytest.approx(margin, abs=1)
        assert ends[:, axis].max() == pytest.approx(size - margin, abs=1)


def test_crops_are_taken_from_all_slices():
    starts = [box.start[0] for box, _ in boxes(Crop((8, 12, 10), 0.3), VOLUME)]
    assert set(starts) == set(range(24 - 8 + 1))


def test_every_start_is_equally_likely():
    starts = [box.start[2] for box, _ in boxes(Crop((1, 1, 46), 1.0), VOLUME, 2000)]
    counts = np.bincount(starts, minlength=5)
    assert counts.size == 5
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400)


def test_a_central_part_smaller_than_the_crop_is_as_large_as_the_crop():
    for box, _ in boxes(Crop((8, 40, 40), 0.5), VOLUME, 20):
        assert box.start[1:] == (10, 5)


@pytest.mark.parametrize("central", [0.5, 1.0])
@pytest.mark.parametrize("volume", [(1, 60, 50), (5, 60, 50), (24, 7, 50), (3, 5, 1)])
def test_a_box_larger_than_the_volume_is_centred_on_it(volume, central):
    crop = Crop((8, 12, 10), central)
    for box, _ in boxes(crop, volume, 20):
        assert box.shape == crop.shape
        for start, length, size in zip(box.start, box.shape, volume, strict=True):
            before, after = -start, start + length - size
            if size < length:
                assert before >= 0
                assert after >= 0
                assert abs(before - after) <= 1
            else:
                assert start >= 0
                assert start + length <= size


def test_every_axis_is_mirrored_half_of_the_time_and_independently():
    mirrors = np.array([pose.mirror for _, pose in boxes(Crop((8, 12, 10)), VOLUME, 1000)])
    assert np.abs(mirrors.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(1000)
    assert len(np.unique(mirrors, axis=0)) == 8


def test_nothing_is_mirrored_where_flips_are_off():
    assert {pose for _, pose in boxes(Crop((8, 12, 10), flips=False), VOLUME)} == {Pose()}


def test_nothing_is_turned_unless_asked_for():
    assert {pose.quarters for _, pose in boxes(Crop((8, 12, 12)), VOLUME)} == {0}


def test_each_quarter_turn_is_equally_likely():
    crop = Crop((8, 12, 12), flips=False, turns=True)
    turns = [pose for _, pose in boxes(crop, VOLUME, 1000)]
    assert {pose.mirror for pose in turns} == {(False, False, False)}
    counts = np.bincount([pose.quarters for pose in turns])
    assert counts.size == 4
    assert np.abs(counts - 250).max() < 5 * np.sqrt(250)


def test_turns_do_not_move_the_first_crop():
    (plain, pose), (turned, other) = (
        boxes(Crop((8, 12, 12), turns=turns), VOLUME, 1)[0] for turns in (False, True)
    )
    assert (plain, pose.mirror) == (turned, other.mirror)


def test_a_quarter_turn_takes_the_last_column_to_the_first_row():
    block = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    np.testing.assert_array_equal(Pose(quarters=1).of(block)[:, 0], block[:, :, 2])


def test_slices_keep_their_order_when_they_are_turned():
    block = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    for quarters in range(4):
        turned = Pose(quarters=quarters).of(block)
        assert [set(a.ravel()) for a in turned] == [set(a.ravel()) for a in block]


def test_flips_and_turns_make_the_eight_poses_of_a_square_equally_often():
    square = np.arange(9).reshape(1, 3, 3)
    crop = Crop((1, 12, 12), turns=True)
    poses = [pose.of(square).tobytes() for _, pose in boxes(crop, VOLUME, 1600)]
    _, counts = np.unique(np.array(poses, "V72"), return_counts=True)
    assert counts.size == 8
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)


def test_every_pose_is_one_that_does_not_mirror_x_and_perhaps_its_mirror_image():
    block = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    for z, y, x, quarters in product((False, True), (False, True), (False, True), range(4)):
        whole = Pose((z, y, x), quarters)
        rest, mirrored = whole.apart()
        assert not rest.mirror[2]
        found = rest.of(block)[..., :: -1 if mirrored else 1]
        np.testing.assert_array_equal(found, whole.of(block))


@pytest.mark.parametrize("shape", [(1, 12, 10), (8, 10, 12)])
def test_turns_of_a_crop_that_is_not_square_are_refused(shape):
    with pytest.raises(ValueError, match=r"crop\.turns needs slices that are square"):
        Crop(shape, turns=True)


def test_the_same_generator_draws_the_same_crops():
    assert boxes(Crop((8, 12, 10)), VOLUME, 30) == boxes(Crop((8, 12, 10)), VOLUME, 30)


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, -1, 4), (4, 4)])
def test_an_impossible_crop_is_refused(shape):
    with pytest.raises(ValueError, match=r"crop\.shape must be"):
        Crop(shape)


@pytest.mark.parametrize("central", [0, -0.5, 1.01, float("nan")])
def test_an_impossible_central_part_is_refused(central):
    with pytest.raises(ValueError, match=r"crop\.central must lie"):
        Crop(central=central)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 1), (0, 9), (23, 40)])
def test_reflected_indices_are_those_of_numpy(size, before, after):
    expected = np.pad(np.arange(size), (before, after), mode="reflect")
    np.testing.assert_array_equal(reflected(-before, before + size + after, size), expected)


def test_reflected_indices_may_lie_wholly_beyond_the_axis():
    whole = np.pad(np.arange(7), (0, 30), mode="reflect")
    np.testing.assert_array_equal(reflected(15, 12, 7), whole[15:27])


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).integers(-1000, 1000, (17, 19, 13)).astype(np.int16)


def test_a_box_within_the_volume_is_the_volume_there(volume):
    np.testing.assert_array_equal(
        read_box(volume, Box((2, 3, 4), (5, 6, 7))), volume[2:7, 3:9, 4:11]
    )


@pytest.mark.parametrize(
    ("start", "shape"),
    [((-4, -5, -6), (25, 29, 25)), ((-4, 3, 4), (8, 5, 5)), ((10, 12, 9), (12, 12, 12)),
     ((-40, -40, -40), (120, 100, 90)), ((0, 0, 13), (17, 19, 4)), ((-3, 0, 0), (1, 19, 13))],
)  # fmt: skip
def test_a_box_beyond_the_volume_is_its_reflection(volume, start, shape):
    padded = np.pad(volume, 130, mode="reflect")
    box = Box(tuple(a + 130 for a in start), shape)
    np.testing.assert_array_equal(read_box(volume, Box(start, shape)), padded[box.slices])


def test_a_single_slice_is_repeated(volume):
    block = read_box(volume[:1], Box((-2, 0, 0), (5, 19, 13)))
    np.testing.assert_array_equal(block, np.repeat(volume[:1], 5, axis=0))


@pytest.mark.parametrize("start", [(2, 3, 4), (-2, 3, 10)])
def test_a_volume_that_is_mapped_into_memory_reads_the_same(volume, tmp_path, start):
    np.save(tmp_path / "volume.npy", volume)
    mapped = np.load(tmp_path / "volume.npy", mmap_mode="r")
    box = Box(start, (6, 5, 7))
    np.testing.assert_array_equal(read_box(mapped, box), read_box(volume, box))


def test_the_slices_of_a_box_have_its_shape(volume):
    box = Box((1, 2, 3), (4, 5, 6))
    assert volume[box.slices].shape == box.shape


def test_scaled_crops_see_more_pixels_in_proportion_to_the_area_of_each_scale():
    crop = Crop((1, 40, 40), 1.0, scales=(1.0, 0.8, 0.5))
    sides = np.array([box.shape[1] for box, _ in boxes(crop, (1, 180, 180), 3000)])
    assert set(sides) == {40, 50, 80}
    share = np.array([np.mean(sides == side) for side in (40, 50, 80)])
    area = np.array([1.0, 0.64, 0.25])
    np.testing.assert_allclose(share, area / area.sum(), atol=0.03)


def test_a_crop_at_scale_1_draws_the_same_as_without_scales():
    one, other = Crop((2, 9, 9)), Crop((2, 9, 9), scales=(1.0,))
    assert boxes(one, VOLUME, 20) == boxes(other, VOLUME, 20)


@pytest.mark.parametrize("scales", [(), (0.0,), (1.2,), (1.0, -0.5)])
def test_scales_lie_between_nothing_and_one(scales):
    with pytest.raises(ValueError, match=r"crop\.scales"):
        Crop(scales=scales)


def test_resampling_keeps_a_ramp_a_ramp_on_the_coarser_grid():
    ramp = np.broadcast_to(np.arange(80, dtype=np.int16) * 10, (3, 60, 80))
    small = resampled(ramp, (30, 40))
    assert small.shape == (3, 30, 40)
    assert small.dtype == np.int16
    # A pixel of the coarse grid covers two of the fine one: its value is their mean.
    np.testing.assert_allclose(small[:, 4:-4, 4:-4], ramp[:, ::2, ::2][:, 4:-4, 4:-4] + 5, atol=1)


def test_resampling_invents_no_value_beyond_those_of_the_block():
    rng = np.random.default_rng(0)
    block = rng.choice(np.array([0, 255], np.int16), (1, 57, 57))
    small = resampled(block, (40, 40))
    assert small.min() >= 0
    assert small.max() <= 255


def test_a_block_of_the_wanted_size_is_left_alone():
    block = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    assert resampled(block, (3, 4)) is block


def test_patches_are_at_least_one():
    with pytest.raises(ValueError, match=r"crop\.patches must be at least 1, not 0"):
        Crop(patches=0)


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirror", list(product((False, True), repeat=3)))
def test_a_cut_writes_its_block_in_its_pose(mirror, quarters):
    volume = np.random.default_rng(0).integers(-1000, 1000, (5, 9, 8)).astype(np.int16)
    pose = Pose(mirror, quarters)
    for box in (Box((1, 2, 1), (3, 6, 6)), Box((-2, -3, 5), (9, 6, 6))):
        expected = pose.of(read_box(volume, box))
        np.testing.assert_array_equal(Cut(volume, box, pose, (6, 6)).voxels(), expected)
        resized = Cut(volume, box, pose, (4, 4)).voxels()
        np.testing.assert_array_equal(resized, pose.of(resampled(read_box(volume, box), (4, 4))))
