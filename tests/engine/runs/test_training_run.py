"""What a training writes to a run folder: it begins, resumes, locks and moves aside."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.errors import BadInput, CannotWrite, Locked, Mismatch
from engine.recipe.overrides import override
from engine.recipe.recipe_file import find_recipe
from engine.recipe.serialization import fingerprint
from engine.runs.compatibility import MAY_CHANGE
from engine.runs.training_run import TrainingRun
from tests.engine.runs.begun import ABOUT, CASES, save
from tests.engine.tiny import shrinking, tiny


def begin(run, recipe, about):
    """Begins a run, or goes on with it, as somebody does who accepts changes."""
    record = run.record()
    changes = run.changed_recipe(recipe, accepted=True)
    changes += run.changed_cases(record, about, recipe, accepted=True)
    return run.begin(recipe, find_recipe("unet3d"), about, record, changes)


def test_a_run_keeps_its_recipe_as_file_and_as_plain_data(run):
    assert (run.folder / "recipe.py").read_text() == find_recipe("unet3d").read_text()
    assert run.recipe() == tiny()


def test_a_run_keeps_what_it_was_made_with(run):
    assert run.record().content == ABOUT | {"recipes": [fingerprint(tiny(), but=MAY_CHANGE)]}


def test_the_same_recipe_may_go_on(run):
    run.begin(tiny(), find_recipe("unet3d"), ABOUT)
    assert run.recipe() == tiny()


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("network.width=4", "network.width: 2 -> 4"),
        ("crop.shape=8,16,32", "crop.shape: [8, 16, 16] -> [8, 16, 32]"),
        ("seed=1", "seed: 0 -> 1"),
        ("learning_rate=2e-3", "learning_rate.rate: 0.001 -> 0.002"),
        ("batch=4", "batch: 2 -> 4"),
        ("noise.sigma=0.2", "noise.sigma: 0.1 -> 0.2"),
        ("loss=mean_absolute_error", "loss: mean_squared_error -> mean_absolute_error"),
    ],
)
def test_another_recipe_is_refused_with_the_field_that_differs(run, field, told):
    with pytest.raises(Mismatch) as refused:
        run.begin(override(tiny(), [field]), find_recipe("unet3d"), ABOUT)
    assert told in refused.value.cause
    assert refused.value.exit_code == 5
    assert run.recipe() == tiny()


@pytest.mark.parametrize("field", ["steps=9", "validate_every=3", "checkpoint_every=7"])
def test_a_run_may_be_made_longer_and_saved_at_other_steps(run, field):
    longer = override(tiny(), [field])
    run.begin(longer, find_recipe("unet3d"), ABOUT)
    assert run.recipe() == longer


def test_a_run_on_other_cases_is_refused(run):
    other = {"cases": CASES | {"training": {"case_00000": "cc"}}, "seed": 0}
    with pytest.raises(Mismatch, match="other cases"):
        run.begin(tiny(), find_recipe("unet3d"), other)


def test_a_change_that_is_consented_to_is_noted_with_its_step_and_what_was_learned_from(run):
    save(run, 2, 4)
    for field in ("batch=4", "batch=6"):
        with pytest.raises(Mismatch, match="--accept-changes"):
            run.begin(override(tiny(), [field]), find_recipe("unet3d"), ABOUT)
        begin(run, override(tiny(), [field]), ABOUT)
    first, second = run.record().changes
    assert first == {
        "from_step": 4, "changed": ["batch: 2 -> 4"], "rescored": False,
        "learned_from": {"aa": "case_00000"},
    }  # fmt: skip
    assert second["changed"] == ["batch: 4 -> 6"]
    assert run.recipe().batch == 6


def test_consent_makes_no_run_of_another_network(run):
    with pytest.raises(Mismatch, match=r"network\.width: 2 -> 4"):
        begin(run, override(tiny(), ["network.width=4"]), ABOUT)
    assert run.recipe() == tiny()


def test_consent_scores_no_run_on_what_it_has_learned_from(run):
    moved = {"cases": {"training": {"case_00001": "bb"}, "validation": {"case_00000": "aa"}}}
    with pytest.raises(Mismatch, match="has learned from case_00000"):
        begin(run, tiny(), moved)
    other = {"cases": CASES | {"training": {"case_00002": "cc"}}}
    begin(run, tiny(), other)
    assert run.record().learned_from == {"aa": "case_00000", "cc": "case_00002"}
    with pytest.raises(Mismatch, match="has learned from case_00000"):
        begin(run, tiny(), moved)


def test_a_folder_of_something_else_is_not_taken_for_a_new_run(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(Mismatch):
        TrainingRun(tmp_path).begin(tiny(), find_recipe("unet3d"), ABOUT)
    assert os.listdir(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize("missing", [("recipe.json",), ("recipe.json", "recipe.py")])
def test_a_run_that_was_killed_while_it_began_can_begin_again(run, missing):
    for name in missing:
        (run.folder / name).unlink()
    (run.folder / f".{missing[-1]}.1-2.tmp").write_text("{")
    with run.locked():
        run.begin(tiny(), find_recipe("unet3d"), ABOUT)
    assert run.recipe() == tiny()


@pytest.mark.parametrize("text", ["", "[]", '{"scripts": {}}'])
def test_a_folder_with_somebody_s_own_recipe_is_not_taken_for_a_run(tmp_path, text):
    (tmp_path / "recipe.py").write_text("mine")
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(Mismatch, match="no run"):
        TrainingRun(tmp_path).begin(tiny(), find_recipe("unet3d"), ABOUT)
    assert (tmp_path / "recipe.py").read_text() == "mine"


def test_a_run_has_learned_from_its_training_cases_and_those_of_its_initial_weights(run):
    assert run.record().learned_from == {"aa": "case_00000"}
    before = {"trained_on": {"ee": "case_00000", "ff": "case_00009"}}
    (run.folder / "run.json").write_text(json.dumps(ABOUT | {"started_from": before}))
    assert run.record().learned_from == {"aa": "case_00000", "ee": "case_00000", "ff": "case_00009"}


def test_a_damaged_recipe_stops_a_run_from_going_on(run):
    (run.folder / "recipe.json").write_text("{")
    with pytest.raises(Mismatch):
        run.begin(tiny(), find_recipe("unet3d"), ABOUT)


def test_a_run_without_its_checkpoints_is_not_begun_again(run):
    assert run.newest(pytest.fail, run.record()) is None
    save(run, 2)
    run.note_saved(run.record())
    shutil.rmtree(run.checkpoints)
    run.begin(tiny(), find_recipe("unet3d"), ABOUT)
    with pytest.raises(Mismatch, match="its checkpoints no longer exist"):
        run.newest(pytest.fail, run.record())


def test_a_run_knows_every_recipe_that_it_was_trained_by(run):
    first = run.record().recipes
    run.begin(override(tiny(), ["steps=9"]), find_recipe("unet3d"), ABOUT)
    assert run.record().recipes == first
    other = fingerprint(override(tiny(), ["seed=9"]), but=MAY_CHANGE)
    (run.folder / "run.json").write_text(json.dumps(ABOUT | {"recipes": [other]}))
    run.begin(tiny(), find_recipe("unet3d"), ABOUT)
    assert run.record().recipes == [other, *first]


def test_what_killed_processes_left_in_a_run_is_swept_away(run):
    (run.folder / ".prior.tmp").mkdir()
    (run.folder / ".prior.tmp" / "half").write_text("")
    (run.folder / ".preview.png.1-2.tmp").write_text("half")
    before = {path.name for path in run.folder.iterdir()}
    run.sweep()
    after = {path.name for path in run.folder.iterdir()}
    assert before - after == {".prior.tmp", ".preview.png.1-2.tmp"}


HOLD = """
import sys, time
from pathlib import Path
from engine.runs.training_run import TrainingRun
with TrainingRun(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(run):
    """Another process that trains the run."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_a_second_process_is_refused_with_the_first_one_s_number(run, holder):
    told = f"process {holder.pid} on {platform.node()}"
    with pytest.raises(Locked, match=told) as refused, run.locked():
        pass
    assert refused.value.exit_code == 8
    with pytest.raises(Locked, match=told):
        run.refuse_locked()


def test_a_lock_is_not_taken_through_a_link(run, tmp_path):
    (tmp_path / "mine").write_text("mine")
    (run.folder / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(CannotWrite), run.locked():
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_lock_on_a_folder_that_was_moved_away_is_taken_again(run, monkeypatch):
    flock, moved = fcntl.flock, []

    def late(file, how):
        if not moved:
            moved.append(run.folder.rename(run.folder.with_name("moved")))
            run.folder.mkdir()
        flock(file, how)

    monkeypatch.setattr("fcntl.flock", late)
    with run.locked():
        assert f"process {os.getpid()}" in (run.folder / ".lock").read_text()


def without_locks(monkeypatch, code):
    def refused(file, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refused)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_run_is_held_by_a_file_with_one_warning(run, monkeypatch, code):
    without_locks(monkeypatch, code)
    told = []
    with run.locked(told.append):
        assert told == [
            f"{run.folder}: its file system has no locks; .lock.held tells other processes that "
            "it is in use"
        ]
        with pytest.raises(Locked, match=f"process {os.getpid()} on"):
            run.refuse_locked()
    run.refuse_locked()


def test_a_machine_with_locks_heeds_the_file_of_one_without(run, monkeypatch):
    with monkeypatch.context() as patch:
        without_locks(patch, errno.ENOSYS)
        held = run.locked()
        held.__enter__()
    with pytest.raises(Locked, match=r"remove .*\.lock\.held"), run.locked():
        pass
    held.__exit__(None, None, None)
    with run.locked():
        pass


def test_a_machine_without_locks_heeds_the_lock_of_one_with_them(run, holder, monkeypatch):
    without_locks(monkeypatch, errno.ENOSYS)
    with pytest.raises(Locked, match=rf"process {holder.pid} .* remove .*\.lock if"), run.locked():
        pass
    holder.kill()
    holder.wait()
    with run.locked():
        pass


def test_a_lock_that_fails_otherwise_is_refused(run, monkeypatch):
    without_locks(monkeypatch, errno.EIO)
    with pytest.raises(CannotWrite, match="Input/output error"), run.locked():
        pass


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSYS])
def test_a_refused_run_leaves_no_folder_behind(tmp_path, monkeypatch, code):
    without_locks(monkeypatch, code)
    run = TrainingRun(tmp_path / "run")
    with pytest.raises((CannotWrite, KeyError)), run.locked():
        raise KeyError
    assert not run.folder.exists()


def test_the_lock_of_a_process_that_was_killed_is_free(run, holder):
    holder.kill()
    holder.wait()
    with run.locked():
        assert str(os.getpid()) in (run.folder / ".lock").read_text()


def test_the_command_line_ends_with_8_on_a_locked_run(run, engine, dataset):
    with run.locked():
        code, out, err = engine(
            "fit", "unet3d", *shrinking(), "--data", dataset, "--run", run.folder, "-q"
        )  # fmt: skip
    assert (code, out) == (8, "")
    assert err.startswith(f"engine: error: {run.folder}: is being trained by process")


def test_the_lock_is_free_after_the_block(run):
    with run.locked():
        pass
    with run.locked():
        assert (run.folder / ".lock").is_file()


def test_the_lock_is_free_after_an_error(run):
    with pytest.raises(ZeroDivisionError), run.locked():
        raise ZeroDivisionError
    with run.locked():
        assert (run.folder / ".lock").is_file()


def test_a_run_is_moved_aside_whole(run):
    save(run, 2)
    aside = run.set_aside()
    assert not run.folder.exists()
    assert aside.parent == run.folder.parent
    assert aside.name.startswith("mine.")
    assert TrainingRun(aside).recipe() == tiny()
    assert checkpoint.steps(TrainingRun(aside).checkpoints) == [2]


def test_where_there_is_no_run_nothing_is_moved(tmp_path):
    assert TrainingRun(tmp_path / "none").set_aside() is None
    assert list(tmp_path.iterdir()) == []


def test_two_runs_moved_aside_in_one_second_are_both_kept(run):
    (run.folder / "first").write_text("")
    first = run.set_aside()
    run.folder.mkdir()
    (run.folder / "recipe.json").write_text("{}")
    (run.folder / "second").write_text("")
    second = run.set_aside()
    assert (first / "first").is_file()
    assert (second / "second").is_file()
    assert not (second / "first").exists()
    assert not (first / "second").exists()


def test_a_folder_that_is_no_run_is_not_moved_aside(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(Mismatch, match="no run"):
        TrainingRun(tmp_path).set_aside()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_that_is_being_trained_is_not_moved_aside(run):
    with run.locked(), pytest.raises(Locked):
        TrainingRun(run.folder).set_aside()
    assert run.recipe() == tiny()


def test_run_json_of_a_training_records_the_cases_by_their_content(trained, dataset):
    about = json.loads((trained / "run.json").read_text())
    told = {case: sha for side in about["cases"].values() for case, sha in side.items()}
    assert told == {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in dataset.glob("*/imaging.nii.gz")
    }
    assert set(about["cases"]) == {"training", "validation", "test"}
    assert about["seed"] == 0
    assert about["precision"] == "float32"


def test_a_refusal_before_anything_is_begun_leaves_no_folder_that_looks_like_a_run(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    for run in (TrainingRun(tmp_path / "new"), TrainingRun(mine)):
        with pytest.raises(BadInput), run.locked():
            raise BadInput("scan.nii", "is bad", "Mend it")
    assert not (tmp_path / "new").exists()
    assert mine.exists()


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"cases": 3}'])
def test_a_saved_run_without_an_intact_record_is_not_resumed(tmp_path, text):
    run = TrainingRun(tmp_path)
    run.begin(tiny(), find_recipe("unet3d"), {"cases": {"training": {"a": "0"}}})
    checkpoint.save(run.checkpoints, {"a": np.zeros(2)}, Progress(3))
    run.resumed_record()
    (tmp_path / "run.json").unlink()
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(Mismatch, match=r"run\.json: .*--fresh"):
        run.resumed_record()
