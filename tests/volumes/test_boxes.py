import numpy as np

from volumes.boxes import Box, copy_box, read_box, reflected, slices_of


def test_any_box_is_read_as_by_its_indices():
    rng = np.random.default_rng(0)
    for _ in range(300):
        volume = rng.integers(0, 1000, rng.integers(1, 8, 3)).transpose(rng.permutation(3))
        starts, sizes = rng.integers(-20, 20, 3), rng.integers(1, 12, 3)
        start, shape = tuple(map(int, starts)), tuple(map(int, sizes))
        axes = zip(start, shape, volume.shape, strict=True)
        expected = volume[np.ix_(*(reflected(*axis) for axis in axes))]
        assert np.array_equal(read_box(volume, Box(start, shape)), expected)


def test_a_box_within_the_volume_is_not_copied():
    volume = np.zeros((4, 5, 6))
    assert read_box(volume, Box((1, 0, 2), (3, 5, 2))).base is volume


def test_slices_come_in_order_and_in_one_piece_whatever_the_order_in_memory():
    volume = np.arange(19 * 3 * 5).reshape(19, 3, 5)
    for stored in (volume, np.asfortranarray(volume), volume.copy()[::-1][::-1]):
        found = list(slices_of(stored))
        assert np.array_equal(found, volume)
        assert all(slice_.flags.c_contiguous for slice_ in found)


def test_any_box_is_copied_as_it_is_read_whatever_the_order_of_the_array():
    rng = np.random.default_rng(1)
    for _ in range(300):
        volume = rng.integers(0, 1000, rng.integers(1, 8, 3)).astype(np.int16)
        starts, sizes = rng.integers(-20, 20, 3), rng.integers(1, 12, 3)
        box = Box(tuple(map(int, starts)), tuple(map(int, sizes)))
        mirrored = np.empty(box.shape, np.int16)[::-1, :, ::-1]
        turned = np.empty(box.shape[::-1], np.float32).transpose(2, 1, 0)
        for out in (np.empty(box.shape, np.int16), mirrored, turned):
            copy_box(volume, box, out)
            np.testing.assert_array_equal(out, read_box(volume, box))
