import threading

from volumes.errors import CannotWrite
from volumes.storage.cache_folder import CacheFolder


def test_a_cache_that_fails_becomes_read_only_and_reports_it_once(tmp_path):
    messages = []
    cache = CacheFolder(tmp_path, messages.append)
    assert not cache.read_only
    refusal = CannotWrite("/cache/a", "cannot be written: No space left on device", "Free some")
    threads = [threading.Thread(target=cache.make_read_only, args=(refusal,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.read_only
    (text,) = messages
    assert text.startswith(
        "/cache/a: cannot be written: No space left on device; the cache is read-only"
    )


def test_every_damaged_file_is_reported(tmp_path):
    messages = []
    cache = CacheFolder(tmp_path, messages.append)
    for name in ("a", "b"):
        cache.report_damaged(tmp_path / name)
    assert messages == [
        f"{tmp_path / name}: is damaged; it is computed again" for name in ("a", "b")
    ]
    assert not cache.read_only


def test_a_cache_without_a_callback_becomes_read_only_too(tmp_path):
    cache = CacheFolder(tmp_path)
    cache.make_read_only(CannotWrite("a", "is full", "Free some"))
    assert cache.read_only
