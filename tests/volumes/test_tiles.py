from __future__ import annotations

import numpy as np
import pytest

from volumes.tiles import padded, tiles


def settings():
    rng = np.random.default_rng(0)

    def three(low, high):
        return tuple(int(n) for n in rng.integers(low, high, 3))

    for _ in range(150):
        yield three(1, 40), three(1, 30), three(0, 20), tuple(2 ** rng.integers(0, 4, 3))
    yield (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)
    yield (1, 1, 1), (64, 64, 64), (30, 30, 30), (8, 8, 8)
    yield (17, 19, 13), (16, 16, 16), (0, 0, 0), (1, 4, 4)
    yield (67, 1, 1), (4, 4, 4), (13, 13, 13), (4, 4, 4)


SETTINGS = [tuple(tuple(int(n) for n in part) for part in setting) for setting in settings()]


def all_tiles():
    for shape, tile, halo, stride in SETTINGS:
        for one in tiles(shape, tile, halo, stride):
            yield one, shape, halo, stride


def spans(box):
    return zip(box.start, box.shape, strict=True)


def test_every_voxel_is_kept_exactly_once():
    for shape, tile, halo, stride in SETTINGS:
        kept = np.zeros(shape, int)
        for one in tiles(shape, tile, halo, stride):
            kept[one.keep.slices] += 1
        assert (kept == 1).all(), (shape, tile, halo, stride)


def test_kept_boxes_lie_within_the_volume_and_hold_voxels():
    for one, shape, _, _ in all_tiles():
        for (start, length), size in zip(spans(one.keep), shape, strict=True):
            assert 0 <= start < start + length <= size


def test_reads_start_on_the_stride_and_are_multiples_of_it():
    for one, _, _, stride in all_tiles():
        for (start, length), step in zip(spans(one.read), stride, strict=True):
            assert start % step == 0
            assert length % step == 0


def test_reads_lie_within_the_padded_volume():
    for one, shape, _, stride in all_tiles():
        for (start, length), size in zip(spans(one.read), padded(shape, stride), strict=True):
            assert 0 <= start < start + length <= size


def test_reads_hold_what_is_kept_and_its_halo_up_to_the_edge_of_the_padded_volume():
    for one, shape, halo, stride in all_tiles():
        axes = zip(spans(one.keep), spans(one.read), halo, padded(shape, stride), strict=True)
        for (keep, kept), (read, length), reach, size in axes:
            assert read <= max(keep - reach, 0)
            assert read + length >= min(keep + kept + reach, size)


def test_the_inner_part_of_a_read_is_what_is_kept():
    for one, shape, _, stride in all_tiles():
        volume = np.arange(np.prod(padded(shape, stride))).reshape(padded(shape, stride))
        inner = volume[one.read.slices][one.inner]
        np.testing.assert_array_equal(inner, volume[one.keep.slices])


def test_a_tile_as_large_as_the_volume_is_the_only_one():
    (only,) = tiles((17, 19, 13), (17, 19, 13), (8, 8, 8), (4, 4, 4))
    assert only.keep.shape == (17, 19, 13)
    assert only.read.shape == (20, 20, 16)


def test_no_tile_keeps_more_than_it_is_asked_for_rounded_up_to_the_stride():
    for shape, tile, halo, stride in SETTINGS:
        largest = padded(tile, stride)
        for one in tiles(shape, tile, halo, stride):
            assert all(n <= most for n, most in zip(one.keep.shape, largest, strict=True))


@pytest.mark.parametrize(
    ("shape", "stride", "expected"),
    [((1, 1, 1), (8, 8, 8), (8, 8, 8)), ((8, 9, 16), (8, 8, 8), (8, 16, 16))],
)
def test_padding_goes_up_to_the_next_multiple_of_the_stride(shape, stride, expected):
    assert padded(shape, stride) == expected
