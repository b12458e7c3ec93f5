import builtins
import io

import pytest

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


# -- The limits of containers and batch jobs -------------------------------------------------------

MIB = 2**20


def group(folder, **content):
    """A cgroup with these files; `__` stands for the dot in their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def left(tmp_path, own):
    (tmp_path / "own").write_text(own)
    return list(memory._left_in_groups(tmp_path, tmp_path / "own"))


def test_the_limit_of_a_group_counts_less_its_use_and_the_page_cache_in_it(tmp_path):
    stat = f"anon 5\ninactive_file {30 * MIB}\nactive_file 7"
    group(tmp_path / "job", memory__max=100 * MIB, memory__current=90 * MIB, memory__stat=stat)
    assert left(tmp_path, "0::/job\n") == [40 * MIB]


def test_a_limit_of_the_first_version_counts_too(tmp_path):
    stat = f"inactive_file 1\ntotal_inactive_file {20 * MIB}"
    names = {"memory__limit_in_bytes": 100 * MIB, "memory__usage_in_bytes": 70 * MIB}
    group(tmp_path / "memory" / "job", **names, memory__stat=stat)
    assert left(tmp_path, "5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n") == [50 * MIB]


def test_the_limits_of_the_groups_above_count(tmp_path):
    group(tmp_path, memory__max=300 * MIB)
    group(tmp_path / "slice", memory__max=200 * MIB, memory__current=50 * MIB)
    group(tmp_path / "slice" / "job", memory__max="max", memory__current=5 * MIB)
    assert left(tmp_path, "0::/slice/job\n") == [150 * MIB, 300 * MIB]


@pytest.mark.parametrize("own", ["0::/not/visible/here\n", "0::/../..\n", "0::/\n"])
def test_a_container_that_sees_its_own_group_alone_is_limited_by_it(tmp_path, own):
    group(tmp_path, memory__max=80 * MIB, memory__current=30 * MIB)
    assert left(tmp_path, own)[-1] == 50 * MIB


@pytest.mark.parametrize("own", ["", "nonsense", "0::/job\n"])
def test_without_a_limit_nothing_is_subtracted(tmp_path, own):
    group(tmp_path / "job", memory__max="max", memory__current=90 * MIB)
    assert left(tmp_path, own) == []


def test_free_memory_is_the_least_of_the_machine_and_its_groups(monkeypatch):
    for limits, expected in (([], 700), ([900, 500, 600], 500), ([-3], 0)):
        monkeypatch.setattr(memory, "_free_of_the_machine", lambda: 700)
        monkeypatch.setattr(memory, "_left_in_groups", lambda limits=limits: iter(limits))
        assert memory.free_bytes() == expected
