"""What is read of a run folder: its recipe, its record, its checkpoints."""

from pathlib import Path

import pytest

from engine.checkpoints import checkpoint
from engine.errors import BadUsage, Mismatch
from engine.runs.run import Run, named_run
from tests.engine.runs.begun import save


def test_a_folder_that_is_no_run_has_no_recipe(tmp_path):
    with pytest.raises(Mismatch, match="cannot be read"):
        Run(tmp_path).recipe()


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_note_of_versions_says_nothing(run, text):
    (run.folder / "run.json").write_text(text)
    assert run.record().content == {}


def test_checkpoints_are_chosen_by_best_last_or_step(run):
    save(run, 2, 4, 6, best=2)
    chosen = {which: run.checkpoint(which).name[-1] for which in ("best", "last", "4")}
    assert chosen == {"best": "2", "last": "6", "4": "4"}


def test_the_best_may_be_what_a_run_was_started_with(run):
    save(run, 0, 2, 4, 6, best=0)
    assert run.checkpoint("best").name == "step-00000000"


def test_without_validation_the_last_is_the_best(run):
    save(run, 2, 4)
    assert run.checkpoint("best") == run.checkpoint("last")


@pytest.mark.parametrize("which", ["3", "first", "", "-4", "4.0"])
def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(run, which):
    save(run, 2, 4)
    with pytest.raises(Mismatch, match="best, last or one of 2, 4"):
        run.checkpoint(which)


def test_a_run_without_checkpoints_is_refused(run):
    with pytest.raises(Mismatch, match="has no checkpoint yet"):
        run.checkpoint("best")


def test_a_run_that_does_not_exist_is_refused_with_the_network_that_was_meant(tmp_path):
    for read in (Run.fields, lambda run: run.checkpoint("best")):
        with pytest.raises(Mismatch, match=r"is no run folder .* Did you mean ct_denoiser\?"):
            read(named_run("ct_denoizer"))
        with pytest.raises(Mismatch, match="or one of ct_denoiser, gaussian_denoiser"):
            read(Run(tmp_path / "none"))


def test_a_checkpoint_that_is_removed_while_it_is_read_is_looked_for_again(run, monkeypatch):
    save(run, 2, best=2)
    load, removed = checkpoint.load, []

    def late(path):
        if not removed:
            removed.append(path)
            for step in (4, 6, 8):
                save(run, step, best=step)  # as the process does that trains it
        return load(path)

    monkeypatch.setattr(checkpoint, "load", late)
    path, arrays = run.opened("best")
    assert not removed[0].exists()
    assert path.name == "step-00000008"
    assert arrays["w"] == 8


def test_a_damaged_checkpoint_is_not_handed_out(run):
    save(run, 2, 4)
    (run.checkpoints / "step-00000004" / "state.npz").write_bytes(b"")
    with pytest.raises(Mismatch, match="is damaged"):
        run.checkpoint("last")


def test_a_name_of_a_network_that_ships_is_its_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named_run("ct_denoiser").recipe().average == 0.998
    assert named_run("runs/mine").folder == Path("runs/mine")


def test_a_folder_with_the_name_of_a_network_that_ships_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ct_denoiser").mkdir()
    with pytest.raises(BadUsage, match=f"folder here. Rename that one, or write {tmp_path}"):
        named_run("ct_denoiser")
    assert named_run(tmp_path / "ct_denoiser").folder == tmp_path / "ct_denoiser"


def test_a_run_that_is_saved_faster_than_it_can_be_read_says_so(run, monkeypatch):
    save(run, 2)

    def gone(path):
        raise Mismatch(path / "MANIFEST.json", "is gone", "Try again")

    monkeypatch.setattr(checkpoint, "load", gone)
    monkeypatch.setattr(type(run.folder), "exists", lambda _: False)
    with pytest.raises(Mismatch, match="is being saved faster than it can be read"):
        run.opened("last")


def test_a_checkpoint_that_is_there_and_damaged_is_looked_at_once(run, monkeypatch):
    save(run, 2)
    looks = []

    def damaged(path):
        looks.append(path)
        raise Mismatch(path, "is damaged", "Choose another checkpoint")

    monkeypatch.setattr(checkpoint, "load", damaged)
    with pytest.raises(Mismatch, match="is damaged"):
        run.opened("last")
    assert len(looks) == 1
