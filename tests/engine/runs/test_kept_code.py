"""Runs with foreign parts: what they keep, and what resumes them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.errors import Mismatch
from engine.recipe.foreign_parts import code_behind
from engine.recipe.recipe_file import load_recipe
from engine.runs import kept_code
from engine.runs.trained_model import open_model
from engine.runs.training_run import TrainingRun

TEXT = """
from dataclasses import dataclass, replace
from engine.networks import UNet2D
from engine.recipe.recipe_file import find_recipe, load_recipe
from losses_of_mine import loss

@dataclass(frozen=True)
class Mine(UNet2D):
    pass

recipe = replace(
    load_recipe(find_recipe("unet2d")), network=Mine(2, 2), loss=loss, seed=SEED
)
"""
LOSS = "import tensorflow as tf\ndef loss(clean, estimate):\n    return tf.abs(clean - estimate)\n"


def recipe_file(folder: Path, seed: int, loss: str = LOSS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "losses_of_mine.py").write_text(loss)
    path = folder / "mine.py"
    path.write_text(TEXT.replace("SEED", str(seed)))
    return path


def begun(folder: Path, source: Path, *, saved: bool = True) -> TrainingRun:
    run = TrainingRun(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run.begin(load_recipe(source), source, {"cases": {}})
    if saved:
        checkpoint.save(run.checkpoints, {}, Progress(1))
    return run


def received(run: TrainingRun, folder: Path) -> TrainingRun:
    """A copy of a run whose code has not run in this process: a comment makes it another."""
    shutil.copytree(run.folder, folder)
    fields = run.fields()
    code = kept_code.read(run.folder, fields["code"])
    files = {name: content + b"# from elsewhere\n" for name, content in code.files.items()}
    other = replace(code, files=files)
    kept_code.keep(folder, other)
    (folder / "recipe.json").write_text(json.dumps(fields | {"code": other.hashes}))
    return TrainingRun(folder)


def test_a_run_keeps_the_files_of_its_recipe_as_they_were(tmp_path):
    source = recipe_file(tmp_path, seed=101)
    run = begun(tmp_path / "run", source)
    (kept,) = (run.folder / "code").iterdir()
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        "recipe.py": source.read_bytes(), "losses_of_mine.py": LOSS.encode()
    }  # fmt: skip
    assert run.fields()["code"] == code_behind(load_recipe(source)).hashes
    assert run.fields()["network"] == {"kind": "recipe.py:Mine", "width": 2, "levels": 2}
    assert run.recipe() == load_recipe(source)


def test_a_run_keeps_modules_beside_its_recipe_that_define_no_part(tmp_path):
    (tmp_path / "sizes.py").write_text("seed = 102\n")
    source = tmp_path / "mine.py"
    source.write_text(
        "from dataclasses import replace\nimport sizes\n"
        "from engine.recipe.recipe_file import find_recipe, load_recipe\n"
        "recipe = replace(load_recipe(find_recipe('unet2d')), seed=sizes.seed)\n"
    )
    run = begun(tmp_path / "run", source)
    (kept,) = (run.folder / "code").iterdir()
    assert (kept / "sizes.py").read_text() == "seed = 102\n"
    assert "code" not in run.fields()
    assert run.recipe().seed == 102


def test_a_run_of_the_engine_s_parts_keeps_one_file(tmp_path):
    from engine.recipe.recipe_file import find_recipe

    run = begun(tmp_path / "run", find_recipe("unet2d"))
    assert not (run.folder / "code").exists()
    assert (run.folder / "recipe.py").read_bytes() == find_recipe("unet2d").read_bytes()


def test_a_run_that_was_received_is_refused_with_its_file_and_hash(tmp_path):
    run = received(begun(tmp_path / "run", recipe_file(tmp_path, seed=103)), tmp_path / "other")
    hashes = run.fields()["code"]
    for act in (run.recipe, lambda: open_model(run)):
        with pytest.raises(Mismatch) as refused:
            act()
        assert refused.value.path.endswith("/recipe.py")
        assert hashes["recipe.py"] in refused.value.cause
        assert "losses_of_mine.py" in refused.value.cause
        assert "--run-code" in refused.value.remedy


def test_the_code_of_a_received_run_runs_if_the_user_asks(tmp_path):
    run = received(begun(tmp_path / "run", recipe_file(tmp_path, seed=104)), tmp_path / "other")
    recipe = replace(run, run_code=True).recipe()
    assert (type(recipe.network).__name__, recipe.seed) == ("Mine", 104)
    assert run.recipe() == recipe  # from here on, it has run


@pytest.mark.parametrize("name", ["recipe.py", "losses_of_mine.py"])
def test_a_file_that_was_changed_is_refused_although_the_user_asks(tmp_path, name):
    run = received(begun(tmp_path / "run", recipe_file(tmp_path, seed=105)), tmp_path / "other")
    code = kept_code.read(run.folder, run.fields()["code"])
    code.place(name).write_bytes(code.files[name] + b"\n")
    with pytest.raises(Mismatch, match=rf"{name}: is not the file that the run recorded: its sha"):
        replace(run, run_code=True).recipe()


def test_a_run_resumes_by_a_recipe_file_without_running_its_own_code(tmp_path):
    source = recipe_file(tmp_path, seed=106)
    run = received(begun(tmp_path / "run", source), tmp_path / "other")
    wanted = load_recipe(source)  # the same definitions, and another hash
    (change,) = run.changed_recipe(wanted, accepted=False)
    assert (change.learned, change.forbidden) == ([], [])
    with pytest.raises(Mismatch, match="--run-code"):
        run.recipe()


def test_another_definition_is_a_change_that_needs_consent(tmp_path):
    run = begun(tmp_path / "run", recipe_file(tmp_path, seed=107))
    source = recipe_file(tmp_path, seed=107, loss=LOSS.replace("tf.abs", "tf.square"))
    wanted = load_recipe(source)
    cause = r"code\.losses_of_mine\.py: [0-9a-f]{8} -> [0-9a-f]{8}\)\. Continue with --accept"
    with pytest.raises(Mismatch, match=cause):
        run.changed_recipe(wanted, accepted=False)
    changes = run.changed_recipe(wanted, accepted=True)
    assert changes[0].rescored
    run.begin(wanted, source, {"cases": {}}, changes=changes)
    assert len(list((run.folder / "code").iterdir())) == 2  # the earlier files stay
    assert run.recipe() == wanted


def test_a_definition_may_change_before_anything_was_learned(tmp_path):
    run = begun(tmp_path / "run", recipe_file(tmp_path, seed=108), saved=False)
    source = recipe_file(tmp_path, seed=108, loss=LOSS + "extra = 1\n")
    (change,) = run.changed_recipe(load_recipe(source), accepted=False)
    assert change.learned == []


def test_a_part_that_the_recipe_file_lost_is_another_recipe(tmp_path):
    run = begun(tmp_path / "run", recipe_file(tmp_path, seed=109))
    source = recipe_file(tmp_path, seed=109)
    source.write_text(source.read_text().replace("Mine", "Ours"))
    with pytest.raises(Mismatch, match=r"is of another recipe.*defines no recipe\.py:Mine"):
        run.changed_recipe(load_recipe(source), accepted=True)


def test_a_beginning_that_was_killed_after_its_code_begins_again(tmp_path):
    source = recipe_file(tmp_path, seed=110)
    run = begun(tmp_path / "run", source, saved=False)
    (run.folder / "recipe.json").unlink()
    (run.folder / ".code.tmp").mkdir()
    with run.locked():
        run.sweep()
        run.begin(load_recipe(source), source, {"cases": {}})
    assert run.recipe() == load_recipe(source)


def test_damaged_code_is_written_anew_by_the_recipe_file(tmp_path):
    source = recipe_file(tmp_path, seed=111)
    run = begun(tmp_path / "run", source, saved=False)
    code = kept_code.read(run.folder, run.fields()["code"])
    code.place("recipe.py").write_text("cut")
    with pytest.raises(Mismatch, match="is not the file that the run recorded"):
        run.recipe()
    run.begin(load_recipe(source), source, {"cases": {}})
    assert kept_code.read(run.folder, run.fields()["code"]).files == code.files
