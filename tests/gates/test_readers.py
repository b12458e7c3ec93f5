"""Trainings whose readers fail while the training waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.checkpoints import checkpoint
from engine.errors import BadInput, Interrupted
from engine.recipe.overrides import override
from engine.runs.record import RunRecord
from engine.runs.training_run import TrainingRun
from engine.terminal import Terminal
from engine.training.signals import Stop
from tests.engine.tiny import tiny
from tests.gates.ledger import Faults
from tests.gates.test_numerics import Noted
from tests.training import command, train
from volumes.errors import CannotWrite
from volumes.sampling.examples import Examples
from volumes.volume import Volume


class Failing:
    """Examples, one of which cannot be read."""

    def __init__(self, examples: Examples, bad: int, fail) -> None:
        self.examples, self.bad, self.fail = examples, bad, fail
        self.dtype = examples.dtype

    def case(self, i: int) -> str:
        return self.examples.case(i)

    def __getitem__(self, i: int):
        if i == self.bad:
            self.fail()
        return self.examples[i]


@pytest.fixture
def loop(cpu, phantom_hu, tmp_path: Path):
    from engine.training.trainer import Trainer, TrainingPlan
    from engine.training.validation import Validation

    volume = Volume(phantom_hu, (3.0, 0.8, 0.7), "phantom", "0" * 64)

    def make(bad: int, fail, terminal: Terminal | None = None):
        changes = ["steps=6", "validate_every=6", "checkpoint_every=1"]
        recipe = override(tiny("unet3d", "network.levels=1"), changes)
        examples = Examples([volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
        run = TrainingRun(tmp_path / f"run-{bad}")
        run.folder.mkdir(exist_ok=True)
        given = Failing(examples, bad, fail)
        validation = Validation(recipe, [volume])
        quiet = terminal or Terminal(quiet=True)
        return Trainer(TrainingPlan(run, RunRecord(), recipe, cpu, given, validation, quiet))

    return make


def raising(error: BaseException):
    def fail() -> None:
        raise error

    return fail


@pytest.mark.gate("G12")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(5, "Input/output error", "/data/scan.npy"), "/data/scan.npy: cannot be read: Inp"),
        (OSError(116, "Stale file handle"), "phantom: cannot be read: Stale file handle"),
        (BadInput("/data/scan.npy", "is damaged", "Mend it"), "/data/scan.npy: is damaged"),
        (CannotWrite("/cache", "is full", "Free some"), "/cache: is full"),
        (MemoryError(), "memory does not hold a step of 2 crops of 8 x 16 x 16"),
        (ValueError("a bug"), "ValueError while phantom was read: a bug"),
    ],
)  # fmt: skip
def test_the_error_of_a_reader_is_shown(
    faults: Faults, loop, error: BaseException, told: str
) -> None:
    codes = {OSError: 3, BadInput: 3, CannotWrite: 4, MemoryError: 7}
    for bad in (0, 5, 11):
        ours = loop(bad, raising(error))
        begun = time.monotonic()
        with pytest.raises(Exception) as caught:  # noqa: PT011 (of whichever kind)
            ours.train(Stop())
        assert time.monotonic() - begun < 30
        assert told in str(caught.value)
        assert getattr(caught.value, "exit_code", 1) == codes.get(type(error), 1)
        # What came before it was learned and saved.
        assert max(checkpoint.steps(ours.run.checkpoints), default=0) == bad // 2
        assert not [t for t in threading.enumerate() if t.name.startswith("feed")]
        faults.handled()


@pytest.mark.gate("G12")
def test_a_reader_that_hangs_is_named_and_does_not_keep_a_training_from_ending(
    faults: Faults, loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.training import reader_threads
    from engine.training import trainer as loop_module

    monkeypatch.setattr(loop_module, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(reader_threads, "_LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(reader_threads, "_END_S", 0.3)
    for bad in (0, 7):
        answered, terminal = threading.Event(), Noted()

        class Asked(Stop):
            """Asks the training to stop once it has complained."""

            @property
            def asked(self, terminal=terminal):
                return "SIGTERM" if terminal.warnings else None

            @asked.setter
            def asked(self, _):
                pass

        ours = loop(bad, answered.wait, terminal)
        with pytest.raises(Interrupted, match=f"stopped at step {bad // 2} by SIGTERM"):
            ours.train(Asked())
        (told,) = terminal.warnings
        assert f"at step {bad // 2}; waiting for phantom" in told
        assert max(checkpoint.steps(ours.run.checkpoints), default=0) == bad // 2
        answered.set()
        faults.handled()


HANGING = """
import sys, threading
from engine.cli.main import main
from engine.training import reader_threads
from volumes.sampling.examples import Examples
reader_threads._END_S = 1.0
real = Examples.__getitem__
def hanging(self, i):
    if i >= 10:
        print("hangs", file=sys.stderr, flush=True)
        threading.Event().wait()
    return real(self, i)
Examples.__getitem__ = hanging
main(sys.argv[1:])
"""


@pytest.mark.gate("G12")
def test_a_process_with_a_hanging_reader_stops_on_request_and_resumes_bitwise(
    faults: Faults, dataset: Path, tmp_path: Path
) -> None:
    line = command(dataset, tmp_path / "run", "steps=8")
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, *line[line.index("fit") :]],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stderr.readline() == "hangs\n"
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 75
        assert "stopped at step 5 by SIGTERM" in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    train(dataset, tmp_path / "run", "steps=8")
    train(dataset, tmp_path / "whole", "steps=8")
    ends = [
        checkpoint.fingerprint(TrainingRun(tmp_path / n).checkpoint("last"))
        for n in ("run", "whole")
    ]
    assert ends[0] == ends[1]
    faults.handled()


@pytest.mark.gate("G12")
@pytest.mark.parametrize("gone", ["source", "cache"])
def test_files_deleted_during_a_training_are_not_needed(
    faults: Faults, engine, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone
) -> None:
    import shutil

    from engine.training.trainer import Trainer
    from tests.engine.tiny import shrinking

    shutil.copytree(dataset, tmp_path / "data")
    monkeypatch.setenv("ENGINE_CACHE", str(tmp_path / "cache"))
    learn, ends = Trainer._learn, []

    def vanishing(self, *given):
        if self.progress.step == 1:
            shutil.rmtree(tmp_path / ("data" if gone == "source" else "cache"), ignore_errors=True)
        return learn(self, *given)

    for name in ("whole", "run"):
        if name == "run":
            monkeypatch.setattr(Trainer, "_learn", vanishing)
        code, _, err = engine(
            "fit", "unet3d", *shrinking(), "--data", tmp_path / "data", "--run", tmp_path / name
        )
        assert code == 0, err
        ends.append(checkpoint.fingerprint(TrainingRun(tmp_path / name).checkpoint("last")))
    assert ends[0] == ends[1]
    assert not os.path.exists(tmp_path / ("data" if gone == "source" else "cache"))
    faults.handled()
