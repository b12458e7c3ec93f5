from collections import Counter
from pathlib import Path

import pytest

from engine.runs import compatibility
from engine.terminal import Terminal
from engine.training.fit import fit
from engine.training.fit_request import FitRequest
from engine.training.signals import Stop
from tests.engine.tiny import shrinking
from volumes.storage import json_files


@pytest.fixture
def request_(cpu, dataset, tmp_path):
    """What a user asks for who trains a tiny network."""
    words = ("network.levels=1", *shrinking(), "checkpoint_every=1")
    return FitRequest("unet3d", words, dataset, tmp_path / "run", devices="cpu")


def test_a_request_is_carried_out_without_the_command_line(request_):
    run = fit(request_, Terminal(quiet=True), Stop())
    assert run.folder == request_.run
    assert run.record().saved


def test_a_resume_reads_its_record_and_its_recipe_once(request_, monkeypatch):
    fit(request_, Terminal(quiet=True), Stop())
    read, asked, opened = json_files.read_json, Counter(), Counter()

    def counted(path: Path, **more):
        opened[path.name] += 1
        return read(path, **more)

    of_recipe, of_cases = compatibility.of_recipe, compatibility.of_cases
    monkeypatch.setattr(json_files, "read_json", counted)
    monkeypatch.setattr(
        compatibility, "of_recipe", lambda *a: asked.update(["recipe"]) or of_recipe(*a)
    )
    monkeypatch.setattr(
        compatibility, "of_cases", lambda *a: asked.update(["cases"]) or of_cases(*a)
    )
    longer = FitRequest(
        request_.recipe,
        (*request_.overrides, "steps=6"),
        request_.data,
        request_.run,
        devices="cpu",
    )
    fit(longer, Terminal(quiet=True), Stop())
    assert asked == {"recipe": 1, "cases": 1}
    assert opened["recipe.json"] == 1
    # Once for whoever holds the lock, once after it is held: a run may be begun in between.
    assert opened["run.json"] == 2
