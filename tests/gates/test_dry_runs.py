"""Dry runs: they refuse what a training refuses, with the same exit code, and write nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.runs.run import Run
from tests.engine.fresh import fresh
from tests.engine.tiny import scan_file, shrinking
from tests.gates.ledger import Faults
from tests.gates.test_locks import holding

Words = tuple[object, ...]
Fault = Callable[
    [Path], Words
]  # changes a copy of everything; returns further words of the command


@pytest.fixture(scope="module")
def trained(cpu, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 steps, with checkpoints at 2 and 4."""
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("runs") / "trained"
    assert run(["fit", "unet3d", *shrinking(), "--data", str(dataset), "--run", str(folder)]) == 0
    return folder


@pytest.fixture
def place(trained: Path, dataset: Path, tmp_path: Path) -> Path:
    """A folder with copies of data, of a run of 4 steps, and of another run to start from."""
    shutil.copytree(dataset, tmp_path / "data")
    for name in ("run", "other"):
        shutil.copytree(trained, tmp_path / name)
    return tmp_path


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and folder with the time of its last change and its bytes."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


def case(place: Path, side: str) -> Path:
    names = json.loads((place / "run" / "run.json").read_text())["cases"][side]
    return place / "data" / next(iter(names)) / "imaging.nii.gz"


def another_network(place: Path) -> Words:
    return ("network.width=4",)


def another_rate(place: Path) -> Words:
    return ("learning_rate=1e-2",)


def fewer_steps(place: Path) -> Words:
    return ("steps=3",)


def another_case(place: Path) -> Words:
    shutil.copytree(place / "data" / "case_00000", place / "data" / "case_00009")
    path = place / "data" / "case_00009" / "imaging.nii.gz"
    path.unlink()
    scan_file(path, np.random.default_rng(5).integers(-1000, 400, (8, 16, 16)).astype("i2"))
    return ()


def a_case_less(place: Path) -> Words:
    shutil.rmtree(case(place, "training").parent)
    return ("--skip-bad",)


def another_scan_of_a_name(place: Path) -> Words:
    path = case(place, "validation")
    path.unlink()
    scan_file(path, np.random.default_rng(5).integers(-1000, 400, (8, 16, 16)).astype("i2"))
    return ()


def one_scan_on_two_sides(place: Path) -> Words:
    shutil.copy(case(place, "training"), case(place, "test"))
    return ("--run", place / "new")


def a_split_of_missing_cases(place: Path) -> Words:
    return ("split.validation=nobody",)


def a_split_without_training(place: Path) -> Words:
    return ("split.validation=4",)


def a_bad_header(place: Path) -> Words:
    case(place, "training").write_bytes(b"<html>")
    return ("--run", place / "new")


def only_bad_test_cases(place: Path) -> Words:
    case(place, "test").write_bytes(b"<html>")
    return ("--run", place / "new", "--skip-bad")


def a_damaged_record(place: Path) -> Words:
    (place / "run" / "run.json").write_text("{")
    return ()


def a_lost_record(place: Path) -> Words:
    (place / "run" / "run.json").unlink()
    return ()


def damaged_checkpoints(place: Path) -> Words:
    for path in (place / "run" / "checkpoints").glob("step-*/state.npz"):
        path.write_bytes(b"damaged")
    return ()


def lost_checkpoints(place: Path) -> Words:
    shutil.rmtree(place / "run" / "checkpoints")
    return ()


def a_folder_of_something_else(place: Path) -> Words:
    (place / "notes").mkdir()
    (place / "notes" / "letter.txt").write_text("Dear")
    return ("--run", place / "notes")


def something_else_set_aside(place: Path) -> Words:
    return (*a_folder_of_something_else(place), "--fresh")


def a_file_above_the_run(place: Path) -> Words:
    return ("--run", place / "data" / "case_00000" / "imaging.nii.gz" / "run")


def started_from_others(place: Path) -> Words:
    return ("--from", place / "other")


def scored_cases_that_were_learned_from(place: Path) -> Words:
    learned = case(place, "training").parent.name
    new = ("--from", place / "other", "--run", place / "new")
    return (*new, f"split.validation={learned}")


def initial_weights_that_are_gone(place: Path) -> Words:
    return ("--from", place / "other", "--from-checkpoint", "3", "--run", place / "new")


def initial_weights_that_changed(place: Path) -> Words:
    """A run that was started from another and never saved, whose weights are gone."""
    begun = place / "begun"
    started = {
        "run": "gone", "folder": str(place / "gone"), "step": 4, "sha256": "0", "trained_on": {},
    }  # fmt: skip
    begun.mkdir()
    for name in ("recipe.json", "recipe.py"):
        shutil.copy(place / "run" / name, begun / name)
    content = json.loads((place / "run" / "run.json").read_text())
    content.pop("saved", None)
    (begun / "run.json").write_text(json.dumps(content | {"started_from": started}))
    return ("--run", begun)


def an_uneven_batch(place: Path) -> Words:
    return ("batch=3", "--devices", "cpu:2", "--run", place / "new")


FAULTS: dict[Fault, int] = {
    another_network: 5, another_rate: 5, fewer_steps: 5, another_case: 5, a_case_less: 5,
    another_scan_of_a_name: 5, one_scan_on_two_sides: 3, a_split_of_missing_cases: 3,
    a_split_without_training: 3, a_bad_header: 3, only_bad_test_cases: 3, a_damaged_record: 5,
    a_lost_record: 5, damaged_checkpoints: 5, lost_checkpoints: 5, a_folder_of_something_else: 5,
    something_else_set_aside: 5, a_file_above_the_run: 4, started_from_others: 5,
    scored_cases_that_were_learned_from: 5, initial_weights_that_are_gone: 5,
    initial_weights_that_changed: 5,
}  # fmt: skip


def command(place: Path, words: Words) -> list[object]:
    run = () if "--run" in words else ("--run", place / "run")
    return ["fit", "unet3d", *shrinking(), "--data", place / "data", *run, "-q", *words]


def errors(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("engine: error: ")]


@pytest.mark.gate("G4")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_dry_run_refuses_what_a_training_refuses_and_writes_nothing(
    engine, place: Path, fault: Fault, faults: Faults, monkeypatch
) -> None:
    monkeypatch.setenv("ENGINE_CACHE", str(place / "cache"))
    words = command(place, fault(place))
    before = tree(place)
    code, out, err = engine(*words, "--dry-run")
    assert (code, out) == (FAULTS[fault], ""), err
    assert tree(place) == before
    assert engine(*words)[0] == code
    faults.handled()


@pytest.mark.gate("G4")
def test_the_words_of_both_refusals_are_the_same(engine, place: Path, faults: Faults) -> None:
    for fault in (another_rate, another_case, fewer_steps):
        words = command(place, fault(place))
        dry, real = (errors(engine(*words, *more)[2]) for more in (("--dry-run",), ()))
        if fault is another_case:  # the file's hash is the same in both
            assert re.search(r"none -> case_00009", dry[0])
        assert dry == real
        faults.handled()


@pytest.mark.gate("G4")
def test_a_dry_run_refuses_a_run_that_another_process_trains(
    engine, place: Path, faults: Faults
) -> None:
    with holding(Run(place / "run")) as process:
        before = tree(place)
        for more in ((), ("--fresh",)):
            code, _, err = engine(*command(place, more), "--dry-run")
            assert code == 8, err
            assert tree(place) == before
            faults.handled()
        process.stdin.close()


@pytest.mark.gate("G4")
@pytest.mark.parametrize(
    "words",
    [("steps=6",), ("--fresh", "network.width=4"), ("--run", "new"), ("--run", "new", "--time"),
     ("--from", "other", "--run", "new"), ("batch=4", "--accept-changes")],
    ids=" ".join,
)  # fmt: skip
def test_a_dry_run_of_what_would_be_trained_writes_nothing(
    cpu, engine, place: Path, words: Words, faults: Faults, monkeypatch
) -> None:
    monkeypatch.setenv("ENGINE_CACHE", str(place / "cache"))
    words = tuple(place / word if word in ("new", "other") else word for word in words)
    before = tree(place)
    code, _, err = engine(*command(place, words), "--dry-run")
    assert code == 0, err
    assert tree(place) == before
    faults.handled()


@pytest.mark.gate("G4")
def test_a_damaged_newest_checkpoint_is_told_and_left_where_it_is(
    cpu, engine, place: Path, faults: Faults
) -> None:
    newest = Run(place / "run").checkpoints / "step-00000004"
    (newest / "state.npz").write_bytes(b"damaged")
    before = tree(place)
    code, _, err = engine(*command(place, ()), "--dry-run")
    assert code == 0, err
    assert f"{newest}" in err
    assert "a training renames it" in err
    assert tree(place) == before
    faults.handled()


@pytest.mark.gate("G4")
def test_a_place_that_may_not_be_written_is_refused(
    engine, place: Path, faults: Faults, monkeypatch
) -> None:
    (place / "closed").mkdir()
    access = os.access  # root may write everywhere
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "closed" and access(path, mode)
    )
    code, _, err = engine(*command(place, ("--run", place / "closed" / "run")), "--dry-run")
    assert code == 4
    assert "Permission denied" in err
    faults.handled()


@pytest.mark.gate("G4")
def test_a_batch_that_the_devices_cannot_share_is_refused(place: Path, faults: Faults) -> None:
    found = fresh(*command(place, an_uneven_batch(place)), "--dry-run")
    assert found.code == 2
    assert "batch: 3 examples cannot be shared by 2 devices" in found.err
    assert not (place / "new").exists()
    faults.handled()
