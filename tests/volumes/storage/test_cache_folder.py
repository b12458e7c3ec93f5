import threading

from volumes.errors import CannotWrite
from volumes.storage.cache_folder import Shelf


def test_a_shelf_that_fails_is_closed_and_that_is_told_once_whoever_meets_it(tmp_path):
    told = []
    shelf = Shelf(tmp_path, told.append)
    assert not shelf.closed
    refusal = CannotWrite("/cache/a", "cannot be written: No space left on device", "Free some")
    threads = [threading.Thread(target=shelf.close, args=(refusal,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shelf.closed
    (text,) = told
    assert text.startswith("/cache/a: cannot be written: No space left on device; going on")


def test_everything_that_is_damaged_is_told(tmp_path):
    told = []
    shelf = Shelf(tmp_path, told.append)
    for name in ("a", "b"):
        shelf.damaged(tmp_path / name)
    assert told == [f"{tmp_path / name}: is damaged, and made anew" for name in ("a", "b")]
    assert not shelf.closed


def test_a_shelf_that_tells_nobody_fails_all_the_same(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.close(CannotWrite("a", "is full", "Free some"))
    assert shelf.closed
