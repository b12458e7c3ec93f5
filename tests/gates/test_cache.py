"""Faults of the cache: none may change a voxel, build an entry twice, or end a training."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.gates.ledger import Faults
from tests.volumes.conversions import counted
from volumes import nifti
from volumes.dataset import Case
from volumes.dataset import store as store_module
from volumes.dataset.store import _LAYOUT, Store
from volumes.errors import BadInput
from volumes.storage import array_cache, atomic

ROOT = Path(__file__).parents[2]
SHAPE = (9, 19, 13)


def voxels(key: int) -> np.ndarray:
    return np.random.default_rng(key).integers(-800, 1500, SHAPE).astype(np.int16)


@pytest.fixture
def hu() -> np.ndarray:
    """(9, 19, 13): no value is padding, so a store keeps it unchanged."""
    return voxels(0)


@pytest.fixture
def case(tmp_path: Path, hu: np.ndarray) -> Case:
    """A scan that exists before it is read, so that no test waits for a clock tick."""
    path = tmp_path / "scan.nii.gz"
    nifti.write_hu(path, hu, (3.0, 0.8, 0.8))
    return Case("scan", path)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, told: list[str]) -> Store:
    return Store(tmp_path / "store", told.append)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The scans whose voxels are read."""
    return counted(monkeypatch)


def files(store: Store, pattern: str) -> list[Path]:
    return sorted(path for path in store.root.rglob(pattern) if path.is_file())


def assert_whole(store: Store, case: Case, hu: np.ndarray) -> None:
    """The oracle is the array that the scan was written from."""
    volume = store.volume(case, scanned=True)
    assert volume.hu.dtype == np.int16
    np.testing.assert_array_equal(volume.hu, hu)
    assert not volume.padding(0).any()
    assert volume.odd == {case.path: ()}


def means_the_same(path: Path, array: np.ndarray) -> bool:
    """Whether numpy reads over the damage, as of a flipped bit that makes "=i2" of "<i2"."""
    with suppress(Exception):
        found = np.load(path, allow_pickle=False)
        return found.dtype == array.dtype and np.array_equal(found, array)
    return False


# -- Damage ----------------------------------------------------------------------------------------


@pytest.mark.gate("G10")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("pattern", ["*.npy", "*-padding.npy", f"{_LAYOUT}/*.json", "noted/*.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "splice"])
def test_damaged_entries_are_rebuilt_once(
    faults: Faults, store: Store, case: Case, hu: np.ndarray, told: list[str],
    conversions: list[Path], pattern: str, damage: str,
) -> None:  # fmt: skip
    assert_whole(store, case, hu)
    path = next(p for p in files(store, "*") if p.match(pattern))
    whole = path.read_bytes()
    array = np.load(path) if path.suffix == ".npy" else hu
    for n in range(faults.times(push=30, soak=2000)):
        draw = faults.random(pattern, damage, n)
        # Half of them where the array describes itself.
        place = draw.randrange(min(len(whole), 140) if n % 2 else len(whole))
        block = bytearray(whole)
        if damage == "flip":
            block[place] ^= 1 << draw.randrange(8)
        elif damage == "cut":
            del block[place:]
        else:
            block[place : place + draw.randint(1, 40)] = draw.randbytes(draw.randint(0, 40))
        if block == whole:
            continue
        path.write_bytes(block)
        harmless = path.suffix == ".npy" and means_the_same(path, array)
        told.clear(), conversions.clear()
        assert_whole(store, case, hu)
        # A note is hashed anew; an array and what describes it are converted once, and said so.
        anew = 0 if pattern == "noted/*.json" or harmless else 1
        assert len(conversions) == len(told) == anew, n
        assert_whole(store, case, hu)
        assert len(conversions) <= 1
        faults.handled()


@pytest.mark.gate("G10")
@pytest.mark.parametrize("missing", ["*.npy", f"{_LAYOUT}/*.json", "noted/*.json", "*.lock"])
def test_missing_entries_are_rebuilt(
    faults: Faults, store: Store, case: Case, hu: np.ndarray, missing: str
) -> None:
    assert_whole(store, case, hu)
    for path in [p for p in files(store, "*") if p.match(missing)]:
        path.unlink()
        assert_whole(store, case, hu)
        faults.handled()


# -- Stale sources ---------------------------------------------------------------------------------


def written(path: Path, hu: np.ndarray) -> bytes:
    nifti.write_hu(path, hu, (3.0, 0.8, 0.8), overwrite=True)
    return path.read_bytes()


def in_place(path: Path, aside: Path) -> None:
    path.write_bytes(aside.read_bytes())


def in_place_with_its_time_set_back(path: Path, aside: Path) -> None:
    before = path.stat()
    path.write_bytes(aside.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed_with_its_time_copied(path: Path, aside: Path) -> None:
    before = path.stat()
    os.utime(aside, ns=(before.st_atime_ns, before.st_mtime_ns))
    aside.replace(path)


def linked(path: Path, aside: Path) -> None:
    path.unlink()
    path.symlink_to(aside)


def in_place_a_year_ago(path: Path, aside: Path) -> None:
    path.write_bytes(aside.read_bytes())
    os.utime(path, (0, 0))


WAYS = [
    in_place, in_place_with_its_time_set_back, renamed_with_its_time_copied, linked,
    in_place_a_year_ago,
]  # fmt: skip


@pytest.mark.gate("G10")
@pytest.mark.parametrize("way", WAYS)
def test_a_scan_that_was_changed_gives_its_new_voxels(
    faults: Faults, store: Store, tmp_path: Path, way
) -> None:
    for n in range(faults.times(push=5, soak=100)):
        path, aside = tmp_path / f"{n}.nii", tmp_path / f"{n}-new.nii"  # of the same size
        written(path, voxels(2 * n))
        case = Case("scan", path)
        assert_whole(store, case, voxels(2 * n))
        written(aside, voxels(2 * n + 1))
        way(path, aside)
        assert_whole(store, case, voxels(2 * n + 1))
        faults.handled()


@pytest.mark.gate("G10")
def test_a_scan_that_changes_while_it_is_read_is_refused_and_not_kept(
    faults: Faults, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = [
        (nifti.Scan, "read_voxels"),
        (store_module.digest, "sha256"),
        (array_cache, "make_folder"),
    ]
    for n in range(faults.times(push=9, soak=90)):
        path = tmp_path / f"{n}.nii"
        written(path, voxels(n))
        owner, name = moments[n % len(moments)]
        function = getattr(owner, name)

        def changing(*given, function=function, path=path, n=n):
            written(path, voxels(n) + 1)
            return function(*given)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, changing)
            with pytest.raises(BadInput, match="was changed while it was read"):
                store.volume(Case("scan", path))
        assert_whole(store, Case("scan", path), voxels(n) + 1)
        faults.handled()


@pytest.mark.gate("G10")
def test_another_layout_does_not_read_old_entries(
    faults: Faults, store: Store, case: Case, hu: np.ndarray, conversions: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert_whole(store, case, hu)
    array = next(p for p in files(store, "*.npy") if "-" not in p.stem)
    for n in range(faults.times(push=3, soak=20)):
        monkeypatch.setattr(store_module, "_LAYOUT", f"v{n + 100}")
        conversions.clear()
        assert_whole(Store(store.root), case, hu)
        assert len(conversions) == 1  # the scan and its padding in one reading
        faults.handled()
    assert array.exists()


# -- Places that fail ------------------------------------------------------------------------------


@pytest.mark.gate("G10")
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ESTALE, errno.EIO]
)
@pytest.mark.parametrize("call", ["open", "fsync", "replace", "mkdir"])
def test_a_cache_that_cannot_be_written_is_not_needed(
    faults: Faults, store: Store, case: Case, hu: np.ndarray, told: list[str],
    monkeypatch: pytest.MonkeyPatch, call: str, number: int,
) -> None:  # fmt: skip
    owners = {"fsync": atomic.os, "replace": atomic.os, "open": atomic, "mkdir": Path}
    owner = owners[call]
    real = getattr(owner, call, open)
    for nth in range(faults.times(push=3, soak=9)):
        calls = 0

        def failing(*given, nth=nth, **named):
            nonlocal calls
            calls += 1
            if calls > nth:
                raise OSError(number, os.strerror(number))
            return real(*given, **named)

        fresh = Store(store.root / str(nth), told.append)
        told.clear()
        with monkeypatch.context() as patch:
            patch.setattr(owner, call, failing, raising=False)
            for _ in range(2):
                assert_whole(fresh, case, hu)
        assert len(told) == (calls > nth)
        assert all(os.strerror(number) in text for text in told)
        assert not files(fresh, "*.tmp")
        assert_whole(Store(fresh.root), case, hu)
        faults.handled()


@pytest.mark.gate("G10")
def test_a_cache_on_a_read_only_disk_is_read(
    faults: Faults, store: Store, case: Case, hu: np.ndarray, conversions: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert_whole(store, case, hu)

    whole = os.open

    def read_only(path, flags, *more):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return whole(path, flags, *more)

    def nothing_new(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    conversions.clear()
    for path in files(store, "*.lock"):
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "open", nothing_new, raising=False)
        patch.setattr(array_cache.os, "open", read_only)
        said: list[str] = []
        assert_whole(Store(store.root, said.append), case, hu)
    assert conversions == said == []
    faults.handled()


# -- Other processes -------------------------------------------------------------------------------

# One process imports everything, and forks: each child costs a few milliseconds.
ZYGOTE = """
import json, os, resource, signal, sys
from contextlib import suppress
from pathlib import Path
from volumes.dataset import Case
from volumes.dataset.store import _LAYOUT, Store

case = Case("scan", Path(sys.argv[1]))
Store(Path(sys.argv[2])).volume(case)  # whatever is imported late is imported now

def build(root, at, limit):
    seen = 0
    def count(*_):
        nonlocal seen
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    told = []
    sys.setprofile(count)
    volume = Store(root, told.append).volume(case)
    sys.setprofile(None)
    return seen, len(told), volume.hu.tobytes().hex()

def once(root, at, limit):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with open(writing, "w") as out:
            json.dump(build(Path(root), at, limit), out)
        os._exit(0)
    return child, writing, reading

for line in sys.stdin:
    jobs = [once(*job) for job in json.loads(line)]
    answers = []
    for child, writing, reading in jobs:
        os.close(writing)
        with open(reading) as given:
            text = given.read()
        _, status = os.waitpid(child, 0)
        answers.append([status, json.loads(text) if text else None])
    print(json.dumps(answers), flush=True)
"""


@pytest.fixture
def zygote(case: Case, tmp_path: Path):
    """Builds stores in processes of their own: (root, killed at which call, limit of a file)."""
    with subprocess.Popen(
        [sys.executable, "-c", ZYGOTE, str(case.path), str(tmp_path / "warm")], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip

        def build(*jobs: tuple[Path, int, int | None]) -> list:
            line = json.dumps([[str(root), at, limit] for root, at, limit in jobs])
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield build
        process.stdin.close()


@pytest.mark.gate("G10")
def test_a_killed_builder_leaves_no_wrong_entry(
    faults: Faults, zygote, tmp_path: Path, hu: np.ndarray
) -> None:
    wanted = hu.tobytes().hex()
    ((status, (calls, _, found)),) = zygote((tmp_path / "whole", 0, None))
    assert (status, found) == (0, wanted)
    assert calls > 500
    seen_states, missed = set(), 0
    kills = faults.times(push=60, soak=3000)
    for n in range(kills):
        root = tmp_path / f"killed-{n}"
        at = faults.random("kill", n).randrange(1, calls)
        ((status, answer),) = zygote((root, at, None))
        if status == 0:  # it was done in fewer calls than the one that was counted
            assert answer[2] == wanted
            missed += 1
            continue
        assert (status, answer) == (signal.SIGKILL, None)
        left = frozenset(p.suffix for p in root.rglob("*") if p.is_file())
        seen_states.add(left)
        ((status, (_, told, found)),) = zygote((root, 0, None))
        assert (status, told, found) == (0, 0, wanted), (at, left)
        faults.handled()
    assert len(seen_states) > 3, "kills met too few moments"
    assert missed <= 0.05 * kills


@pytest.mark.gate("G10")
def test_of_several_builders_one_builds(
    faults: Faults, zygote, tmp_path: Path, hu: np.ndarray
) -> None:
    for n in range(faults.times(push=6, soak=100)):
        root = tmp_path / f"many-{n}"
        answers = zygote(*[(root, 0, None)] * 8)
        assert [status for status, _ in answers] == [0] * 8
        assert {answer[2] for _, answer in answers} == {hu.tobytes().hex()}
        (array,) = (path for path in root.rglob("*.npy") if "-" not in path.stem)
        assert not list(root.rglob("*.tmp"))
        # Whoever builds makes more calls by far than whoever reads.
        made = sorted(answer[0] for _, answer in answers)
        assert array.stat().st_nlink == 1
        assert sum(calls > 0.8 * made[-1] for calls in made) == 1, made
        faults.handled(8)


@pytest.mark.gate("G10")
def test_a_disk_that_is_full_at_any_byte_is_not_needed(
    faults: Faults, zygote, tmp_path: Path, hu: np.ndarray
) -> None:
    size = 128 + hu.nbytes
    for n in range(faults.times(push=20, soak=500)):
        root = tmp_path / f"full-{n}"
        limit = faults.random("full", n).randrange(size)
        ((status, (_, told, found)),) = zygote((root, 0, limit))
        assert (status, told, found) == (0, 1, hu.tobytes().hex()), limit
        assert not list(root.rglob("*.tmp"))
        ((status, (_, told, found)),) = zygote((root, 0, None))
        assert (status, told, found) == (0, 0, hu.tobytes().hex()), limit
        faults.handled()
