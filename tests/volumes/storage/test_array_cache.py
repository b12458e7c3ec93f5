import threading

import numpy as np
import pytest

from volumes.errors import BadInput, CannotWrite
from volumes.storage import memory
from volumes.storage.array_cache import Arrays, Content
from volumes.storage.cache_folder import Shelf

VALUES = np.arange(24, dtype=np.int16).reshape(4, 3, 2)


@pytest.fixture
def made():
    return []


@pytest.fixture
def make(made):
    def make():
        made.append(1)
        return Content(VALUES.shape, [VALUES[:3], VALUES[3:]], ("odd",))

    return make


def test_an_array_is_made_once_and_told_with_what_was_counted(tmp_path, make, made):
    kept = Arrays(Shelf(tmp_path))
    for _ in range(3):
        array, odd = kept.array("a", make)
        np.testing.assert_array_equal(array, VALUES)
        assert odd == ("odd",)
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1
    assert len(made) == 1


def test_an_array_of_another_type_is_not_taken_for_it(tmp_path, make, made):
    kept = Arrays(Shelf(tmp_path))
    kept.array("a", make)
    array, _ = kept.array("a", lambda: Content((2,), [np.ones(2, np.uint8)]), np.uint8)
    assert array.tolist() == [1, 1]


def test_threads_that_want_the_same_array_have_it_made_once(tmp_path, make, made):
    kept, found = Arrays(Shelf(tmp_path)), []
    threads = [
        threading.Thread(target=lambda: found.append(kept.array("a", make)[0])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(found) == 8


def test_where_nothing_can_be_kept_an_array_is_held_and_cannot_be_written(tmp_path, make):
    (tmp_path / "file").write_text("")
    shelf = Shelf(tmp_path / "file")
    array, odd = Arrays(shelf).array("a", make)
    np.testing.assert_array_equal(array, VALUES)
    assert (array.dtype, odd) == (np.int16, ("odd",))
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1
    assert shelf.closed


def test_what_lies_on_a_closed_shelf_is_read(tmp_path, make, made):
    Arrays(Shelf(tmp_path)).array("a", make)
    shelf = Shelf(tmp_path)
    shelf.close(CannotWrite(tmp_path, "is full", "Free some"))
    assert isinstance(Arrays(shelf).array("a", make)[0], np.memmap)
    assert not isinstance(Arrays(shelf).array("b", make)[0], np.memmap)
    assert len(made) == 2


def test_what_memory_does_not_hold_is_refused_by_the_place_that_failed(tmp_path, make, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 95)
    shelf = Shelf(tmp_path)
    shelf.close(CannotWrite(tmp_path, "is full", "Free some"))
    with pytest.raises(CannotWrite, match="memory does not hold the 48 bytes"):
        Arrays(shelf).array("a", make)


def test_what_cannot_be_made_is_not_kept(tmp_path):
    def pieces():
        yield VALUES[:3]
        raise BadInput("scan", "was changed", "Wait")

    with pytest.raises(BadInput):
        Arrays(Shelf(tmp_path)).array("a", lambda: Content(VALUES.shape, pieces()))
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
