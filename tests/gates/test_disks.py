"""G6: full disks, quotas and rights, at every operation that writes."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.errors import CannotWrite, DiskFull
from engine.recipe.recipe_file import find_recipe
from engine.runs.metrics_file import MetricsFile
from engine.runs.training_run import TrainingRun
from tests.engine.tiny import identity, scan_file, shrinking, tiny, untrained
from tests.gates.disk import Disk, at, onwards, refusing
from volumes import nifti

pytestmark = pytest.mark.gate("G6")

CODES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE)
FULL = (errno.ENOSPC, errno.EDQUOT)


def arrays(step, size=12):
    return {"w": np.full(size, step, np.float32), "n": np.int64(step)}


def blows(operations):
    """Every way in which each of so many operations may fail: alone, or with all that follow."""
    for code in CODES:
        for number in range(operations):
            for how in (at, onwards):
                yield code, number, how(number, refusing(code))


def refused(call, *arguments):
    """The refusal of a call, if any."""
    try:
        call(*arguments)
    except CannotWrite as refusal:
        return refusal
    return None


@pytest.fixture
def unsynced(monkeypatch):
    """Disables syncing: faulted files need not reach a disk."""
    monkeypatch.setattr("os.fsync", lambda _: None)


# -- What the engine writes ------------------------------------------------------------------------


def test_a_save_that_fails_anywhere_leaves_the_last_good_one(tmp_path, faults, unsynced):
    before, folder = tmp_path / "before", tmp_path / "checkpoints"
    for step in (2, 4):
        checkpoint.save(before, arrays(step), Progress(step))

    def saved(strike=None):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)
        disk = Disk(folder, strike) if strike else Disk(folder)
        with disk.watched():
            checkpoint.save(folder, arrays(6), Progress(6))
        return disk.tried

    for code, number, strike in blows(saved()):
        told = f"{errno.errorcode[code]} at {number}"
        refusal = refused(saved, strike)
        if refusal is None:  # what failed is the removal of older ones: the next save tries again
            assert checkpoint.steps(folder)[-1] == 6, told
        else:
            assert isinstance(refusal, DiskFull) == (code in FULL), told
            assert os.strerror(code) in refusal.cause, told
        checkpoint.sweep(folder)
        steps = checkpoint.steps(folder)
        assert steps in ([2, 4], [2, 4, 6], [4, 6]), told
        for step in steps:
            held = checkpoint.load(checkpoint.place(folder, step))
            assert held["n"] == step, told
        assert not list(folder.glob(".*")), told
        checkpoint.save(folder, arrays(8), Progress(8))  # there is room again
        assert checkpoint.steps(folder)[-1] == 8, told
        faults.handled()


def test_metrics_that_cannot_be_written_are_whole_rows(tmp_path, faults, unsynced):
    path = tmp_path / "metrics.jsonl"

    def written(strike=None):
        path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "half')
        disk = Disk(tmp_path, strike) if strike else Disk(tmp_path)
        with disk.watched():
            metrics = MetricsFile(path, 2)
            try:
                for step in (3, 4, 5):
                    metrics.row(step=step)
                metrics.sync()
            finally:
                metrics.close()
        return disk.tried

    for code, number, strike in blows(written()):
        refusal = refused(written, strike)
        assert refusal is None or isinstance(refusal, DiskFull) == (code in FULL)
        lines = path.read_bytes().splitlines(keepends=True)
        whole = [json.loads(line)["step"] for line in lines if line.endswith(b"}\n")]
        assert whole == [1, 2, 3, 4, 5][: len(whole)], f"{errno.errorcode[code]} at {number}"
        assert len(whole) == 5 if refusal is None else len(whole) >= 2
        faults.handled()


def test_a_run_that_could_not_begin_can_begin_later(tmp_path, faults, unsynced):
    run, recipe, source = TrainingRun(tmp_path / "run"), tiny(), find_recipe("unet3d")

    def begun(strike=None):
        disk = Disk(tmp_path, strike) if strike else Disk(tmp_path)
        with disk.watched(), run.locked():
            run.begin(recipe, source, {"cases": {}})
        return disk.tried

    count = begun()
    for code, number, strike in blows(count):
        shutil.rmtree(run.folder)
        refusal = refused(begun, strike)
        assert refusal is None or os.strerror(code) in refusal.cause
        begun()
        assert run.recipe() == recipe, f"{errno.errorcode[code]} at {number}"
        faults.handled()


# -- The command line ------------------------------------------------------------------------------


@pytest.fixture
def fit(engine, dataset, cpu):
    def call(run, *words):
        tiny = [*shrinking(), "network.levels=1", "steps=6", "checkpoint_every=1", *words]
        return engine("fit", "unet3d", *tiny, "--data", dataset, "--run", run)

    return call


@contextmanager
def full_at(run, saves):
    """A disk that is full while the saves of some numbers are made."""
    count = 0

    def strike(_, operation):
        nonlocal count
        begins = operation.kind == "mkdir" and operation.path.suffix == ".tmp"
        count += begins
        return refusing(errno.ENOSPC) if begins and count in saves else None

    with Disk(run, strike).watched():
        yield


def test_a_full_disk_is_waited_for_twice_and_ends_a_training_the_third_time(fit, tmp_path, faults):
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert fit(whole)[0] == 0
    with full_at(run, {2, 3, 5}):
        code, _, err = fit(run)
    assert code == 0, err
    assert err.count("tries again at the next checkpoint") == 3
    assert err.count("(1 of 3 failures)") == 2  # the fourth save has started the count anew
    same(run, whole)
    faults.handled(3)
    shutil.rmtree(run)
    with full_at(run, {3, 4, 5}):
        code, _, err = fit(run)
    assert code == 4
    assert "engine: error: " in err
    assert "No space left on device" in err
    assert checkpoint.steps(run / "checkpoints") == [1, 2]
    assert fit(run)[0] == 0
    same(run, whole)
    faults.handled(3)


def test_a_training_whose_last_save_fails_ends_with_4_and_resumes(fit, tmp_path, faults):
    run = tmp_path / "run"
    with full_at(run, {6}):
        assert fit(run)[0] == 4
    assert checkpoint.steps(run / "checkpoints")[-1] == 5
    assert fit(run)[0] == 0
    faults.handled()


def same(run, whole):
    one, other = (TrainingRun(folder).checkpoint("last") for folder in (run, whole))
    assert checkpoint.fingerprint(one) == checkpoint.fingerprint(other)
    ours, theirs = (
        [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (run, whole)
    )
    assert ours == theirs


def test_denoising_leaves_whole_files_or_none(engine, cpu, tmp_path, faults):
    recipe = tiny("unet3d", "network.width=1", "network.levels=1")
    run = untrained(tmp_path / "run", recipe, cpu, identity)
    stored = np.random.default_rng(0).integers(-900, 300, (4, 16, 16), np.int16)
    scan, out = scan_file(tmp_path / "scan.nii.gz", stored), tmp_path / "out"

    def denoised(strike=None):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        disk = Disk(out, strike) if strike else Disk(out)
        with disk.watched():
            code, _, err = engine("denoise", scan, "-m", run.folder, "-o", out, "--save-residual")
        return code, err, disk

    code, err, disk = denoised()
    assert code == 0, err
    whole = {path.name for path in out.iterdir()}
    everything = list(blows(disk.tried))
    random = faults.random("denoise")
    for code, number, strike in random.sample(everything, faults.times(push=12, soak=400)):
        ended, err, disk = denoised(strike)
        told = f"{errno.errorcode[code]} at {number}: {err}"
        if all(_costs_nothing(code, operation) for operation in disk.struck):
            assert ended == 0, told
            assert {path.name for path in out.iterdir()} == whole, told
            faults.handled(len(disk.struck))
            continue
        assert ended == 4, told
        assert os.strerror(code) in err, told
        assert {path.name for path in out.iterdir()} < whole, told
        for path in out.glob("*.nii.gz"):
            nifti.open_scan(path).read_hu()
        for path in out.glob("*.json"):
            json.loads(path.read_text())
        faults.handled()


def _costs_nothing(code, operation):
    """Whether a file has its name already, or its folder cannot be synced, as on some systems."""
    unsynced = operation.kind == "fsync" and operation.path.is_dir() and code == errno.EACCES
    return operation.kind == "unlink" or unsynced


# -- Disks that are full indeed --------------------------------------------------------------------

SAVE = """
import resource, sys
from pathlib import Path
import numpy as np
from engine.checkpoints import checkpoint
from engine.errors import DiskFull

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    checkpoint.save(Path(sys.argv[1]), {"w": np.ones(10_000, np.float32)}, checkpoint.Progress(6))
except DiskFull as refusal:
    print(refusal)
    sys.exit(refusal.exit_code)
"""


@pytest.mark.parametrize("limit", [100, 5_000, 40_000])
def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path, limit):
    folder = tmp_path / "checkpoints"
    for step in (2, 4):
        checkpoint.save(folder, arrays(step), Progress(step))
    line = [sys.executable, "-c", SAVE, str(folder), str(limit)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "File too large. Raise the limit on the size of files" in done.stdout
    assert checkpoint.newest(folder, pytest.fail) == Progress(4)
    assert not list(folder.glob(".*"))


def test_events_that_cannot_be_written_end_no_training(cpu, tmp_path):
    from engine.training.tensorboard import Events

    said = []
    events = Events(tmp_path / "events", 0, said.append)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        for step in range(3):
            events.picture(step, "validation", bytes(100_000))
            events.scalars(step, {"loss": 1.0})
        events.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(said) == 1
    assert "metrics.jsonl" in said[0]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"no disk of its own may be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("asked", [True, False], ids=["asked for first", "run out"])
def test_a_disk_without_room_keeps_what_it_has(small_disk, monkeypatch, asked):
    if not asked:
        monkeypatch.setattr("engine.checkpoints.checkpoint._refuse_full", lambda *_: None)
    folder = small_disk / "checkpoints"
    for step in (2, 4):
        checkpoint.save(folder, arrays(step, 50_000), Progress(step))
    filler = small_disk / "filler"
    filler.write_bytes(bytes(550_000))
    with pytest.raises(DiskFull, match="left" if asked else "No space left on device"):
        checkpoint.save(folder, arrays(6, 50_000), Progress(6))
    assert checkpoint.newest(folder, pytest.fail) == Progress(4)
    assert not list(folder.glob(".*"))
    filler.unlink()
    checkpoint.save(folder, arrays(6, 50_000), Progress(6))
    assert checkpoint.steps(folder) == [4, 6]


@pytest.mark.parametrize(
    ("text", "code"), [("; No space left on device", 4), ("OOM when allocating tensor", 7)]
)
def test_a_full_disk_is_not_reported_as_full_memory(engine, monkeypatch, text, code):
    from tensorflow import errors

    def failing(*_, **__):
        raise errors.ResourceExhaustedError(None, None, text)

    monkeypatch.setattr("engine.diagnostics.info.describe", failing)
    assert engine("info", "anything")[0] == code
