import errno
import os
import threading

import numpy as np
import pytest

from volumes.errors import BadInput, CannotWrite
from volumes.storage import memory
from volumes.storage.array_cache import ArrayCache, Content
from volumes.storage.cache_folder import CacheFolder

VALUES = np.arange(24, dtype=np.int16).reshape(4, 3, 2)


@pytest.fixture
def made():
    return []


@pytest.fixture
def make(made):
    def make():
        made.append(1)
        return Content(VALUES.shape, [VALUES[:3], VALUES[3:]], ("odd",), identity="who")

    return make


def test_an_array_is_made_once_and_returned_with_its_messages(tmp_path, make, made):
    kept = ArrayCache(CacheFolder(tmp_path))
    for _ in range(3):
        array, odd, identity = kept.array("a", make)
        assert identity == "who"
        np.testing.assert_array_equal(array, VALUES)
        assert odd == ("odd",)
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1
    assert len(made) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_an_array_has_the_datatype_that_its_maker_chose(tmp_path, dtype):
    kept = ArrayCache(CacheFolder(tmp_path))
    for _ in range(2):
        array = kept.array("a", lambda: Content((2,), [np.ones(2, dtype)], dtype=dtype)).array
        assert (array.dtype, array.tolist()) == (dtype, [1, 1])


def test_threads_that_want_the_same_array_have_it_made_once(tmp_path, make, made):
    kept, found = ArrayCache(CacheFolder(tmp_path)), []
    threads = [
        threading.Thread(target=lambda: found.append(kept.array("a", make)[0])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(found) == 8


def test_without_a_writable_folder_an_array_is_held_in_memory_and_read_only(tmp_path, make):
    (tmp_path / "file").write_text("")
    cache = CacheFolder(tmp_path / "file")
    array, odd, identity = ArrayCache(cache).array("a", make)
    np.testing.assert_array_equal(array, VALUES)
    assert (array.dtype, odd, identity) == (np.int16, ("odd",), "who")
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1
    assert cache.read_only


def test_a_read_only_cache_is_still_read(tmp_path, make, made):
    ArrayCache(CacheFolder(tmp_path)).array("a", make)
    cache = CacheFolder(tmp_path)
    cache.make_read_only(CannotWrite(tmp_path, "is full", "Free some"))
    assert isinstance(ArrayCache(cache).array("a", make)[0], np.memmap)
    assert not isinstance(ArrayCache(cache).array("b", make)[0], np.memmap)
    assert len(made) == 2


def test_an_array_that_does_not_fit_into_memory_is_refused_with_the_path_that_failed(
    tmp_path, make, monkeypatch
):
    monkeypatch.setattr(memory, "free_bytes", lambda: 95)
    cache = CacheFolder(tmp_path)
    cache.make_read_only(CannotWrite(tmp_path, "is full", "Free some"))
    with pytest.raises(CannotWrite, match="its 48 bytes do not fit into memory"):
        ArrayCache(cache).array("a", make)


def test_an_array_that_fails_is_not_stored(tmp_path):
    def pieces():
        yield VALUES[:3]
        raise BadInput("scan", "was changed", "Wait")

    with pytest.raises(BadInput):
        ArrayCache(CacheFolder(tmp_path)).array("a", lambda: Content(VALUES.shape, pieces()))
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("code", "remedy"), [(errno.EMFILE, "ulimit -n"), (errno.ENOMEM, "vm.max_map_count")]
)
def test_an_array_that_cannot_be_mapped_is_not_damaged_and_is_held_in_memory(
    tmp_path, make, monkeypatch, code, remedy
):
    def failing(path):
        raise OSError(code, os.strerror(code), path)

    ArrayCache(CacheFolder(tmp_path)).array("a", make)
    monkeypatch.setattr("volumes.storage.array_cache.mapped_array", failing)
    told = []
    cache = CacheFolder(tmp_path, told.append)
    for _ in range(2):
        np.testing.assert_array_equal(ArrayCache(cache).array("a", make).array, VALUES)
    assert told == [
        f"{tmp_path}/a.npy: cannot be mapped: {os.strerror(code)}; "
        "the cache is read-only from here on"
    ]
    monkeypatch.setattr(memory, "free_bytes", lambda: 95)
    with pytest.raises(CannotWrite, match=remedy):
        ArrayCache(cache).array("a", make)
