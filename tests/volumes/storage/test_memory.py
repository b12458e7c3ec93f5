import builtins
import io

from volumes.storage import memory


def test_free_memory_is_a_number_that_can_be():
    assert 2**20 < memory.free_bytes() < 2**50


def test_what_the_system_could_give_up_counts_as_free(monkeypatch):
    told = io.StringIO("MemTotal: 900 kB\nMemFree: 5 kB\nMemAvailable: 700 kB\n")
    monkeypatch.setattr(builtins, "open", lambda _: told)
    assert memory.free_bytes() == 700 * 1024


def test_where_the_system_does_not_tell_free_pages_are_counted(monkeypatch):
    monkeypatch.setattr(builtins, "open", lambda _: io.StringIO("MemFree: 5 kB\n"))
    assert 2**20 < memory.free_bytes() < 2**50
