import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import engine
from engine.errors import BadUsage, Interrupted, Mismatch
from engine.recipe.recipe_file import load_recipe
from engine.runs.run import Run
from tests.engine.tiny import shrinking, tiny

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]


def fingerprint(run):
    from engine.checkpoints import checkpoint

    return checkpoint.fingerprint(Run(run).checkpoint("last"))


def test_a_run_of_the_api_is_that_of_the_command(trained, dataset, tmp_path):
    result = engine.fit("unet3d", shrinking(), data=dataset, run=tmp_path / "run", quiet=True)
    assert result.run == tmp_path / "run"
    assert (result.step, result.best_step) == (4, 4)
    assert fingerprint(result.run) == fingerprint(trained)
    assert (result.run / "recipe.json").read_bytes() == (trained / "recipe.json").read_bytes()
    rows = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert result.history == rows
    assert result.scores == rows[-1]["mean"]
    assert result.figure.png == (result.run / "preview.png").read_bytes()


@pytest.fixture
def notebook_recipe():
    """A recipe of no file, as a notebook defines one."""
    return tiny("unet3d", "steps=2")


def test_a_recipe_of_no_file_is_kept_as_one(notebook_recipe, dataset, tmp_path, cpu):
    run = tmp_path / "run"
    result = engine.fit(notebook_recipe, data=dataset, run=run, quiet=True)
    assert load_recipe(run / "recipe.py") == notebook_recipe == Run(run).recipe()
    assert engine.fit(notebook_recipe, data=dataset, run=run, steps=3, quiet=True).step == 3
    command = Run(run).record().command
    assert command == ["engine.fit", "Recipe(...)", f"data={dataset.name}", "run=run", "steps=3"]
    # Neither the object nor its folder need repeat the steps.
    again = engine.fit(notebook_recipe, data=dataset, run=run, quiet=True)
    assert (result.step, again.step) == (2, 3)
    assert engine.fit(run, data=dataset, quiet=True).step == 3


def test_another_recipe_in_its_place_is_refused_or_accepted_and_kept(dataset, tmp_path, cpu):
    run, given = tmp_path / "run", {"data": dataset, "run": tmp_path / "run", "quiet": True}
    engine.fit(tiny("unet3d", "steps=1"), **given)
    faster = tiny("unet3d", "steps=2", "learning_rate=1e-2")
    with pytest.raises(Mismatch, match=r"learning_rate.*--accept-changes"):
        engine.fit(faster, **given)
    engine.fit(faster, **given, accept_changes=True)
    assert load_recipe(run / "recipe.py") == faster == Run(run).recipe()


def test_a_recipe_of_no_file_needs_a_run_folder(notebook_recipe, dataset):
    with pytest.raises(BadUsage, match=r"^--run: is missing, and a recipe without a file has no"):
        engine.fit(notebook_recipe, data=dataset)


def test_a_refusal_has_the_words_of_the_command(engine_command, dataset, tmp_path):
    with pytest.raises(engine.Refusal) as refused:
        engine.fit("unet3d", ["bach=2"], data=dataset, run=tmp_path / "run")
    code, _, err = engine_command(
        "fit", "unet3d", "bach=2", "--data", dataset, "--run", tmp_path / "run"
    )
    assert err == f"engine: error: {refused.value}\n"
    assert code == refused.value.exit_code
    assert refused.value._render_traceback_() == [f"BadUsage: {refused.value}"]


@pytest.fixture
def engine_command(request):
    """The command line; the name `engine` is the package's here."""
    return request.getfixturevalue("engine")


def test_ctrl_c_saves_the_step_and_the_same_call_resumes(cpu, dataset, tmp_path, monkeypatch):
    from engine.training.training_log import TrainingLog

    before = [signal.getsignal(number) for number in SIGNALS]
    logged = TrainingLog.step

    def pressed(self, done, best_mse):
        if done.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return logged(self, done, best_mse)

    monkeypatch.setattr(TrainingLog, "step", pressed)
    given = {"data": dataset, "run": tmp_path / "run", "quiet": True}
    with pytest.raises(Interrupted, match=r"stopped at step \d+ by SIGINT\. Run the same"):
        engine.fit("unet3d", [*shrinking(), "steps=30", "checkpoint_every=30"], **given)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert int(saved.name[5:]) in (3, 4)
    monkeypatch.undo()
    assert engine.fit("unet3d", ["steps=5"], **given, accept_changes=True).step == 5


def test_a_second_ctrl_c_ends_the_call_and_not_the_process(cpu, dataset, tmp_path, monkeypatch):
    from engine.training.training_log import TrainingLog

    def pressed(self, done, best_mse):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    monkeypatch.setattr(TrainingLog, "step", pressed)
    with pytest.raises(KeyboardInterrupt) as ended:
        engine.fit("unet3d", shrinking(), data=dataset, run=tmp_path / "run", quiet=True)
    assert ended.type is KeyboardInterrupt


def test_a_training_works_in_another_thread(cpu, trained, dataset, tmp_path):
    found = []

    def work():
        found.append(
            engine.fit("unet3d", shrinking(), data=dataset, run=tmp_path / "run", quiet=True)
        )

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [result.step for result in found] == [4]
    assert fingerprint(tmp_path / "run") == fingerprint(trained)


@pytest.mark.parametrize("installed", [True, False])
def test_tensorboard_is_named_once(cpu, dataset, tmp_path, capfd, monkeypatch, installed):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: (installed or None) if name == "tensorboard" else found(name, *more),
    )
    engine.fit("unet3d", [*shrinking(), "steps=1"], data=dataset, run=tmp_path / "my run")
    err = capfd.readouterr().err
    assert err.count("tensorboard --logdir") == 1
    assert ("pip install tensorboard, then" in err) is not installed
    assert f"tensorboard --logdir '{tmp_path}/my run'" in err
    assert "\x1b" not in err


def test_importing_the_package_imports_nothing_slow():
    program = (
        "import sys, engine; assert 'fit' in dir(engine); "
        "print(*{'numpy', 'tensorflow', 'rich'} & set(sys.modules)); engine.fit; engine.evaluate; "
        "print(*{'tensorflow', 'matplotlib', 'IPython'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n\n"
