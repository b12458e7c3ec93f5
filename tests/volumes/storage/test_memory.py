import builtins
import io

from volumes.storage import memory


def test_free_memory_is_a_plausible_number():
    assert 2**20 < memory.free_bytes() < 2**50


def test_the_page_cache_counts_as_free(monkeypatch):
    meminfo = io.StringIO("MemTotal: 900 kB\nMemFree: 5 kB\nMemAvailable: 700 kB\n")
    monkeypatch.setattr(builtins, "open", lambda _: meminfo)
    assert memory.free_bytes() == 700 * 1024


def test_without_meminfo_free_pages_are_counted(monkeypatch):
    monkeypatch.setattr(builtins, "open", lambda _: io.StringIO("MemFree: 5 kB\n"))
    assert 2**20 < memory.free_bytes() < 2**50
