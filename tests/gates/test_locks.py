"""G13: two processes, one run folder."""

import errno
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.errors import Locked
from engine.recipe.recipe_file import find_recipe
from engine.runs.trained_model import open_model
from engine.runs.training_run import TrainingRun
from tests.engine.fresh import fresh
from tests.engine.tiny import scan_file, shrinking, tiny, untrained
from tests.gates.trainings import Aim, ended, start

pytestmark = pytest.mark.gate("G13")

HOLD = """
import sys
from pathlib import Path
from engine.runs.training_run import TrainingRun
with TrainingRun(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(cpu, tmp_path):
    """A run that has begun and was saved once."""
    return untrained(tmp_path / "runs" / "mine", tiny("unet3d", "network.levels=1"), cpu)


@pytest.fixture
def holder(run):
    """Another process that has the lock of the run."""
    with holding(run) as process:
        yield process
        process.stdin.close()


def holding(run):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def fit(engine, dataset):
    def call(run, *words):
        tiny = [*shrinking(), "network.levels=1", *words]
        return engine("fit", "unet3d", *tiny, "--data", dataset, "--run", run.folder, "-q")

    return call


def refused_at_once(result, run, holder):
    told = f"is being trained by process {holder.pid} on {platform.node()}"
    assert result[:2] == (8, "")
    assert result[2] == (
        f"engine: error: {run.folder}: {told}. Wait for it, or choose another --run.\n"
    )


def tree(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("words", [(), ("--fresh",), ("--from", "mine")], ids=["", "fresh", "from"])
def test_a_second_fit_is_refused_and_changes_nothing(run, holder, fit, words, tmp_path, cpu):
    if words[:1] == ("--from",):
        other = untrained(tmp_path / "runs" / "other", tiny("unet3d", "network.levels=1"), cpu)
        words = ("--from", str(other.folder))
    before = tree(run.folder)
    refused_at_once(fit(run, *words), run, holder)
    assert tree(run.folder) == before
    assert not list(run.folder.parent.glob("mine.*"))


def test_a_second_fit_is_refused_before_tensorflow_is_imported(run, holder, dataset):
    words = ["fit", "unet3d", *shrinking(), "network.levels=1", "--data", dataset]
    ended = fresh(*words, "--run", run.folder, "-q")
    assert ended.code == 8
    assert not {"tensorflow", "keras"} & ended.slow


def test_an_import_into_a_run_that_is_trained_is_refused(
    run, holder, engine, tmp_path, monkeypatch
):
    variables = tiny("cnn2").network.build().variables
    layers = [(v.path, np.zeros(v.shape, np.float32)) for v in variables]
    monkeypatch.setattr("engine.runs.keras_import._layers", lambda _: layers)
    (tmp_path / "weights.h5").write_text("")
    before = tree(run.folder)
    words = ["--network", "cnn2", *(w for w in shrinking("cnn2") if w.startswith("network"))]
    refused_at_once(
        engine("import", tmp_path / "weights.h5", *words, "--run", run.folder), run, holder
    )
    assert tree(run.folder) == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_process_that_died_is_free(fit, tmp_path, number):
    run = TrainingRun(tmp_path / "run")
    with holding(run) as process:
        assert fit(run)[0] == 8
        process.send_signal(number)
    assert str(process.pid) in (run.folder / ".lock").read_text()
    assert fit(run)[0] == 0


WITHOUT_LOCKS = """
import errno, fcntl, os
def flock(*_):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
fcntl.flock = flock
"""


@pytest.fixture
def without_locks(monkeypatch):
    """A file system without flock, as some of Lustre, for this process and those that it starts."""

    def flock(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    monkeypatch.setattr("tests.gates.test_locks.HOLD", WITHOUT_LOCKS + HOLD)


def test_without_locks_one_process_trains_and_a_killed_one_leaves_the_run_free(
    fit, tmp_path, without_locks, faults
):
    run = TrainingRun(tmp_path / "run")
    for end in (signal.SIGKILL, signal.SIGTERM):
        with holding(run) as process:
            before = tree(run.folder)
            for words in ((), ("--fresh",), ("--dry-run",)):
                code, out, err = fit(run, *words)
                assert (code, out) == (8, "")
                assert f"is being trained by process {process.pid} on {platform.node()}" in err
                assert err.endswith(f"remove {run.folder}/.lock.held if that process has ended.\n")
                assert tree(run.folder) == before
                faults.handled()
            process.send_signal(end)
        assert str(process.pid) in (run.folder / ".lock.held").read_text()
        code, _, err = fit(run)
        assert code == 0
        assert err.count("its file system has no locks") == 1
        assert not (run.folder / ".lock.held").exists()
        faults.handled()


def test_without_locks_one_of_many_takes_the_run_of_a_killed_process(
    tmp_path, without_locks, faults
):
    run = TrainingRun(tmp_path / "run")
    with holding(run) as process:
        process.kill()
    stale = (run.folder / ".lock.held").read_text()
    for _ in range(faults.times(push=20, soak=500)):
        (run.folder / ".lock.held").write_text(stale)
        begin, end = threading.Barrier(8), threading.Barrier(8)
        outcomes = []

        def take(begin=begin, end=end, outcomes=outcomes):
            begin.wait()
            try:
                with run.locked():
                    outcomes.append("taken")
                    end.wait()
            except Locked:
                outcomes.append("refused")
                end.wait()

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes.count("taken") == 1
        faults.handled()


@pytest.mark.parametrize("content", [b"process 1 on elsewhere", b"", b"\xff\0" * 1000])
def test_an_old_lock_is_free_whatever_its_content(fit, tmp_path, content):
    run = TrainingRun(tmp_path / "run")
    run.folder.mkdir()
    (run.folder / ".lock").write_bytes(content)
    assert fit(run)[0] == 0


def test_a_denoising_needs_no_lock(run, holder, engine, tmp_path):
    scan = scan_file(tmp_path / "scan.nii.gz", np.zeros((4, 16, 16), np.int16))
    assert engine("denoise", scan, "-m", run.folder)[0] == 0
    assert engine("info", run.folder)[0] == 0


def test_a_reader_of_a_run_that_is_being_saved_gets_whole_checkpoints(cpu, tmp_path, faults):
    run = TrainingRun(tmp_path / "run")
    run.folder.mkdir()
    run.begin(tiny(), find_recipe("unet3d"), {"cases": {}})
    over = threading.Event()

    def save():
        step = 0
        while not over.is_set():
            step += 1
            arrays = {f"model/{i}": np.full(2000, step, np.float32) for i in range(8)}
            checkpoint.save(run.checkpoints, arrays, Progress(step, step, 1 / step))

    saving = threading.Thread(target=save)
    saving.start()
    try:
        while not checkpoint.steps(run.checkpoints):
            pass
        for i in range(faults.times(push=150, soak=5000)):
            model = open_model(run, ("best", "last")[i % 2])
            values = {float(value) for array in model.arrays.values() for value in array}
            assert values == {model.step}
            faults.handled()
    finally:
        over.set()
        saving.join()


def test_of_two_that_start_together_one_trains(dataset, tmp_path, faults):
    """One holds the run when it begins; the other comes while it does."""
    run, cache = tmp_path / "run", tmp_path / "cache"
    words = ["unet3d", *shrinking(), "network.levels=1", "--data", str(dataset), "-q"]
    words += ["--run", str(run)]
    for _ in range(faults.times(push=1, soak=10)):
        both = [start(words, cache, tmp_path / f"said{i}") for i in range(2)]
        codes = sorted(ended(process) for process in both)
        # The later one is refused, or finds the run done.
        assert codes in ([0, 8], [0, 0]), codes
        assert checkpoint.steps(run / "checkpoints")[-1] == 4
        shutil.rmtree(run)
        faults.handled()


def test_a_run_whose_process_was_killed_in_a_save_is_resumed(dataset, tmp_path):
    words = ["unet3d", *shrinking(), "network.levels=1", "--data", str(dataset), "-q"]
    words += ["--run", str(tmp_path / "run")]
    said = tmp_path / "said"
    killed = start(words, tmp_path / "cache", said, Aim("rename into place", 1))
    assert ended(killed) == -9
    assert ended(start(words, tmp_path / "cache", said)) == 0, said.read_text()
    assert os.listdir(tmp_path / "run" / "checkpoints")
