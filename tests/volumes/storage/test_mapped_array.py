import gc
import os

import numpy as np
import pytest

from volumes.storage.mapped_array import mapped_array

VALUES = np.arange(24, dtype=np.int16).reshape(4, 3, 2)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "array.npy", VALUES)
    return tmp_path / "array.npy"


def opened():
    return len(os.listdir("/proc/self/fd"))


def times_mapped(path):
    with open("/proc/self/maps") as lines:
        return sum(str(path) in line for line in lines)


def test_a_mapped_array_is_that_of_the_file_and_cannot_be_written(path):
    array = mapped_array(path)
    assert (array.dtype, array.shape) == (np.int16, (4, 3, 2))
    np.testing.assert_array_equal(array, VALUES)
    assert isinstance(array[1:], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.setflags(write=True)


def test_mapped_arrays_keep_no_file_open(path):
    before = opened()
    arrays = [mapped_array(path) for _ in range(20)]
    assert opened() == before
    assert times_mapped(path) == len(arrays)


def test_an_array_is_unmapped_with_its_last_slice(path):
    part = mapped_array(path)[1:, :, 0]
    gc.collect()
    np.testing.assert_array_equal(part, VALUES[1:, :, 0])
    del part
    gc.collect()
    assert times_mapped(path) == 0


@pytest.mark.parametrize("size", [0, 5, 100, 130, -1, 1])
def test_a_file_of_another_size_is_refused(path, size):
    whole = path.read_bytes()
    path.write_bytes((whole + bytes(size)) if size == 1 else whole[:size])
    with pytest.raises(ValueError, match=r"."):
        mapped_array(path)


@pytest.mark.parametrize(("place", "value"), [(0, 0), (6, 2), (6, 0), (7, 1)])
def test_another_format_or_version_is_refused(path, place, value):
    changed = bytearray(path.read_bytes())
    changed[place] = value
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=r"version|magic"):
        mapped_array(path)


def test_an_array_of_objects_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="no plain array"):
        mapped_array(tmp_path / "a.npy")
