import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.recipe.recipe_file import find_recipe
from engine.runs.run import Run
from tests.engine.tiny import from_json, shrinking, tiny

REFUSAL = re.compile(r"engine: error: (?P<path>[^:]+): (?P<cause>.+)[.] (?P<remedy>.+)[.]\n")


@pytest.fixture
def fit(engine, dataset, cpu):
    """Fits a tiny recipe, at a learning rate of its own, in a folder."""

    def call(run, *words, data=dataset):
        own = [*shrinking(), "learning_rate=1e-4"]
        return engine("fit", "unet3d", *own, "--data", data, "--run", run, "-q", *words)

    return call


@pytest.fixture(scope="module")
def tuned(cpu, trained, dataset, tmp_path_factory):
    """The folder of a run of 4 steps that was started from the trained one, at another rate."""
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("runs") / "tuned"
    words = ["fit", "unet3d", *shrinking(), "learning_rate=1e-4", "validate_every=2"]
    words += ["checkpoint_every=1", "--data", str(dataset), "--run", str(folder), "-q"]
    assert run([*words, "--from", str(trained)]) == 0
    return folder


@pytest.fixture
def copy(tmp_path):
    """Copies a run, so that it may be changed; `note` changes its run.json."""

    def call(run, name="copy", **note):
        folder = tmp_path / name
        shutil.copytree(run, folder)
        about = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(about | note))
        return folder

    return call


def unsaved(run):
    """Makes a run one that was killed before its first checkpoint."""
    about = json.loads((run / "run.json").read_text())
    assert about.pop("saved")
    (run / "run.json").write_text(json.dumps(about))


def killed_before_it_was_saved(run):
    """Leaves of a run what a process leaves that was killed before its first checkpoint."""
    shutil.rmtree(run / "checkpoints")
    unsaved(run)
    return run


def assert_refused(result, path=None):
    assert result[:2] == (5, "")
    told = REFUSAL.fullmatch(result[2])
    assert told, result[2]
    if path is not None:
        assert told["path"] == str(path)
    return told


def rows(run, step=0):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["step"] == step]


def of_the_network(run, step):
    (row,) = [row for row in rows(run, step) if row.get("method") == "network"]
    return row


def weights(run, which):
    """The variables of a run's network."""
    arrays = checkpoint.load(Run(run).checkpoint(which))
    return {name: array for name, array in arrays.items() if name.startswith("model/")}


def assert_same(one, other):
    assert set(one) == set(other)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


# -- Starting --------------------------------------------------------------------------------------


def test_a_run_starts_with_the_weights_of_the_other_and_a_fresh_optimizer(fit, trained, tmp_path):
    # So slow that nothing is learned: step 0 is the best, and is kept.
    run = tmp_path / "run"
    assert fit(run, "learning_rate=1e-30", "--from", trained)[0] == 0
    assert_same(weights(run, "0"), weights(trained, "last"))
    arrays = checkpoint.load(Run(run).checkpoint("0"))
    fresh = {name: array for name, array in arrays.items() if not name.startswith("model/")}
    assert fresh
    unscaled = {"loss_scale/scale": 1, "loss_scale/since": -1}
    for name, array in fresh.items():
        np.testing.assert_array_equal(array, unscaled.get(name, 0), name)


def test_a_run_is_scored_before_it_learns_as_the_other_was_at_its_end(tuned, trained):
    first, last = of_the_network(tuned, 0), of_the_network(trained, 4)
    assert first["validation"] == last["validation"]
    assert first["mean"] == last["mean"]


def test_a_run_that_starts_from_nothing_has_no_score_of_the_network_at_step_0(trained):
    assert [row["method"] for row in rows(trained)] == ["noisy"]


def test_learning_goes_on_from_there(tuned, trained):
    changed = [
        name
        for name, array in weights(tuned, "last").items()
        if not np.array_equal(array, weights(trained, "last")[name])
    ]
    assert len(changed) == len(weights(trained, "last"))
    # Adam's step is at most about the learning rate: what was learned before is still there.
    for name, array in weights(tuned, "last").items():
        assert np.abs(array - weights(trained, "last")[name]).max() < 4 * 1.1e-4


def test_the_best_is_what_was_given_where_learning_does_harm(fit, trained, tmp_path):
    run = tmp_path / "run"
    assert fit(run, "learning_rate=0.5", "validate_every=1", "--from", trained)[0] == 0
    scores = [of_the_network(run, step)["mean"]["mse"] for step in range(5)]
    assert min(scores) == scores[0]
    assert Run(run).checkpoint("best").name == "step-00000000"


def test_another_checkpoint_may_be_chosen(fit, trained, tmp_path):
    run = tmp_path / "run"
    words = ("learning_rate=1e-30", "--from", trained, "--from-checkpoint", "2")
    assert fit(run, *words)[0] == 0
    assert_same(weights(run, "0"), weights(trained, "2"))


def test_run_json_records_the_initial_weights(tuned, trained, engine):
    told = Run(tuned).record().content["started_from"]
    assert (told["run"], told["step"]) == (trained.name, 4)
    assert told["sha256"] == checkpoint.fingerprint(Run(trained).checkpoint("last"))
    cases = Run(trained).record().content["cases"]["training"]
    voxels = Run(trained).record().content["voxels"]
    learned = [(hashes[name], name) for hashes in (cases, voxels) for name in cases]
    assert told["trained_on"] == dict(learned)
    assert f"{trained.name} at step 4" in engine("info", tuned)[1]


def test_a_dry_run_prints_the_initial_weights(fit, trained, tmp_path):
    code, out, _ = fit(tmp_path / "run", "--from", trained, "--dry-run")
    assert code == 0
    assert f"from: {trained.name} at step 4, sha256 " in out
    assert not (tmp_path / "run").exists()


def test_imported_weights_are_a_start_of_which_no_cases_are_known(
    fit, engine, trained, copy, tmp_path
):
    imported = copy(trained, cases={})
    code, _, err = fit(tmp_path / "run", "--from", imported)
    assert code == 0
    assert "does not record which cases its weights were trained on" in err


# -- Refusals --------------------------------------------------------------------------------------


def test_no_such_run_is_refused(fit, tmp_path):
    assert_refused(fit(tmp_path / "run", "--from", tmp_path / "none"))
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_checkpoint_is_refused(fit, trained, copy, tmp_path):
    empty = killed_before_it_was_saved(copy(trained))
    assert_refused(fit(tmp_path / "run", "--from", empty), empty)


def test_a_damaged_checkpoint_is_refused(fit, trained, copy, tmp_path):
    bad = copy(trained)
    path = Run(bad).checkpoint("last")
    (path / "state.npz").write_bytes(b"")
    told = assert_refused(fit(tmp_path / "run", "--from", bad), path)
    assert "is damaged" in told["cause"]


def test_another_network_is_refused_with_the_field(fit, trained, tmp_path):
    told = assert_refused(fit(tmp_path / "run", "network.width=3", "--from", trained), trained)
    assert "network.width: 2 -> 3" in told["cause"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays, name: arrays.pop(name), "holds no variable {name} of shape"),
        (lambda arrays, name: arrays.update({name: arrays[name][..., :1]}), "holds no variable"),
        (lambda arrays, name: arrays.update({"model/other": arrays[name]}), "holds model/other"),
    ],
    ids=["missing", "of another shape", "foreign"],
)
def test_a_variable_that_does_not_match_is_refused_by_its_name(
    fit, trained, copy, tmp_path, change, said
):
    source = copy(trained)
    arrays = checkpoint.load(Run(source).checkpoint("last"))
    name = next(name for name in arrays if name.startswith("model/") and "kernel" in name)
    change(arrays, name)
    checkpoint.save(
        Run(source).checkpoints, arrays, checkpoint.verified(Run(source).checkpoint("last"))
    )
    told = assert_refused(fit(tmp_path / "run", "--from", source))
    assert said.format(name=name) in told["cause"]
    assert checkpoint.steps(Run(tmp_path / "run").checkpoints) == []


def test_a_run_cannot_start_from_itself(fit, tuned):
    before = sorted(tuned.parent.iterdir())
    assert_refused(fit(tuned, "--from", tuned, "--fresh"), tuned)
    assert sorted(tuned.parent.iterdir()) == before


def test_a_checkpoint_of_no_run_is_refused(fit, tmp_path):
    code, out, err = fit(tmp_path / "run", "--from-checkpoint", "last")
    assert (code, out) == (2, "")
    assert "--from-checkpoint: is given without --from. Name the run with --from" in err


# -- Leaks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["validation", "test"])
def test_what_the_weights_have_learned_from_is_not_scored(fit, trained, tmp_path, side):
    seen = sorted(Run(trained).record().content["cases"]["training"])[0]
    other = "test" if side == "validation" else "validation"
    unseen = sorted(Run(trained).record().content["cases"][other])[0]
    words = (f"split.{side}={seen}", f"split.{other}={unseen}", "--from", trained)
    told = assert_refused(fit(tmp_path / "run", *words), seen)
    assert f"is for {side}, and {trained.name} has learned from it" in told["cause"]
    assert checkpoint.steps(Run(tmp_path / "run").checkpoints) == []


def test_a_scan_by_another_name_is_still_the_same_scan(fit, trained, dataset, copy, tmp_path):
    cases = Run(trained).record().content["cases"]
    (held_out,) = cases["validation"]
    source = copy(trained, cases={"training": {"elsewhere": cases["validation"][held_out]}})
    told = assert_refused(fit(tmp_path / "run", "--from", source), held_out)
    assert "as elsewhere" in told["cause"]


def test_training_cases_of_earlier_initial_weights_are_not_scored(fit, tuned, copy, tmp_path):
    cases = Run(tuned).record().content["cases"]
    (held_out,) = cases["test"]
    before = Run(tuned).record().content["started_from"]
    before["trained_on"][cases["test"][held_out]] = held_out
    source = copy(tuned, started_from=before)
    assert_refused(fit(tmp_path / "run", "--from", source), held_out)


def test_another_scan_of_the_same_name_is_a_warning_and_no_error(fit, trained, copy, tmp_path):
    (name,) = Run(trained).record().content["cases"]["test"]
    source = copy(trained, cases={"training": {name: "0" * 64}}, voxels={})
    code, _, err = fit(tmp_path / "run", "--from", source)
    assert code == 0
    assert f"{name}: copy was trained on another file of that name" in err


def test_evaluation_knows_the_training_cases_of_the_initial_weights(
    engine, tuned, dataset, copy, tmp_path
):
    cases = Run(tuned).record().content["cases"]
    (held_out,) = cases["test"]
    before = Run(tuned).record().content["started_from"]
    before["trained_on"][cases["test"][held_out]] = "elsewhere"
    source = copy(tuned, started_from=before)
    result = engine("evaluate", source, "--data", dataset, "-o", tmp_path / "report")
    assert f"was trained on {held_out}" in assert_refused(result)["cause"]


# -- Going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True], ids=["without --from", "with --from"])
def test_a_run_goes_on_from_its_own_checkpoint(fit, tuned, trained, copy, again):
    run = copy(tuned)
    words = ["validate_every=2", "checkpoint_every=1", "steps=5"]
    assert fit(run, *words, *(["--from", trained] if again else []))[0] == 0
    assert [row["step"] for row in rows(run, 5) if "loss" in row] == [5]
    assert Run(run).record().content["started_from"] == Run(tuned).record().content["started_from"]


def test_a_run_resumes_without_the_run_that_it_started_from(fit, tuned, copy, tmp_path):
    before = Run(tuned).record().content["started_from"]
    run = copy(tuned, started_from=before | {"folder": str(tmp_path / "gone")})
    assert fit(run, "validate_every=2", "steps=5")[0] == 0


def test_other_weights_are_refused_for_a_run_that_has_begun(fit, tuned, trained):
    result = fit(tuned, "--from", trained, "--from-checkpoint", "2")
    assert "was started from other weights" in assert_refused(result, tuned)["cause"]


def test_weights_are_refused_for_a_run_that_began_without(fit, trained, tuned, copy):
    run = copy(trained)
    shutil.rmtree(run / "checkpoints")
    unsaved(run)
    result = fit(run, "learning_rate=1e-3", "--from", tuned)
    assert "was not started from other weights" in assert_refused(result, run)["cause"]


@pytest.mark.parametrize("kept", [5, 3, 2, 1])
@pytest.mark.parametrize("again", [False, True], ids=["without --from", "with --from"])
def test_a_run_killed_before_it_was_saved_starts_from_those_weights_again(
    fit, tuned, trained, tmp_path, again, kept
):
    run = tmp_path / "run"
    run.mkdir()
    for name in (".lock", "run.json", "recipe.py", "recipe.json", "metrics.jsonl")[: kept + 1]:
        shutil.copy(tuned / name, run)
    unsaved(run)
    words = ["validate_every=2", "checkpoint_every=1"]
    assert fit(run, *words, *(["--from", trained] if again else []))[0] == 0
    assert_same(weights(run, "last"), weights(tuned, "last"))
    assert [row.get("method") for row in rows(run)] == ["noisy", "network"]
    assert of_the_network(run, 4) == of_the_network(tuned, 4)


def test_a_run_killed_before_it_learned_goes_on_from_step_0(fit, tuned, trained, tmp_path):
    run = tmp_path / "run"
    words = ("validate_every=2", "checkpoint_every=1")
    assert fit(run, *words, "steps=1", "--from", trained)[0] == 0
    for path in Run(run).checkpoints.glob("step-*1"):
        shutil.rmtree(path)
    assert fit(run, *words)[0] == 0
    assert_same(weights(run, "last"), weights(tuned, "last"))
    assert of_the_network(run, 0) == of_the_network(tuned, 0)


def test_a_run_is_refused_if_its_initial_weights_vanish_before_its_first_save(
    fit, tuned, copy, tmp_path
):
    before = Run(tuned).record().content["started_from"]
    run = copy(tuned, started_from=before | {"folder": str(tmp_path / "gone")})
    told = assert_refused(fit(killed_before_it_was_saved(run), "validate_every=2"))
    assert "no longer exists" in told["cause"]
    assert "--fresh" in told["remedy"]


def test_a_run_is_refused_if_its_initial_weights_change_before_its_first_save(fit, tuned, copy):
    before = Run(tuned).record().content["started_from"]
    run = copy(tuned, started_from=before | {"sha256": "0" * 64})
    told = assert_refused(fit(killed_before_it_was_saved(run), "validate_every=2"))
    assert "holds other weights" in told["cause"]


def test_a_damaged_record_of_the_initial_weights_is_refused(fit, tuned, copy):
    run = killed_before_it_was_saved(copy(tuned, started_from={"run": "a"}))
    assert_refused(fit(run, "validate_every=2"), run / "run.json")


def test_a_run_keeps_its_own_recipe_not_that_of_its_initial_weights(tuned):
    assert from_json(tuned / "recipe.json") == dataclasses.replace(
        tiny("unet3d", "learning_rate=1e-4"), validate_every=2, checkpoint_every=1
    )
    assert (tuned / "recipe.py").read_text() == find_recipe("unet3d").read_text()


# -- A wider network -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(cpu, dataset, tmp_path_factory):
    """A run of a narrow bias-free U-Net."""
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("runs") / "narrow"
    assert run(["fit", *WIDE, "network.widths=2,3", "--run", str(folder), "--data", str(dataset),
                "-q"]) == 0  # fmt: skip
    return folder


WIDE = [
    "gaussian_denoiser", "split.validation=1", "split.test=1", "crop.shape=1,16,16", "steps=2",
    "validate_every=2", "checkpoint_every=2", "validate_slices=2", "learning_rate=1e-3",
]  # fmt: skip


def scored(folder, step):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["mean"] for row in rows if (row["step"], row.get("method")) == (step, "network")]


def test_a_wider_network_begins_with_the_scores_of_the_one_it_starts_from(
    engine, dataset, narrow, tmp_path
):
    words = ("--data", dataset, "--run", tmp_path / "wide", "--from", narrow, "-q")
    code, _, err = engine("fit", *WIDE, "network.widths=4,6", *words)
    assert code == 0, err
    before, after = scored(narrow, 2), scored(tmp_path / "wide", 0)
    assert len(before) == len(after) == 4  # three levels and their mean
    for one, other in zip(before, after, strict=True):
        assert other["psnr_db"] == pytest.approx(one["psnr_db"], abs=1e-4)
    assert scored(tmp_path / "wide", 2) != after  # and learns
    wide = checkpoint.load(Run(tmp_path / "wide").checkpoint("last"))
    assert wide["model/down1_a1/kernel"].shape == (1, 3, 3, 4, 4)


@pytest.mark.parametrize("widths", ["1,3", "2,3,4", "2"])
def test_a_network_of_other_levels_or_fewer_channels_is_refused(
    engine, dataset, narrow, tmp_path, widths
):
    words = ("--data", dataset, "--run", tmp_path / "other", "--from", narrow, "-q")
    assert_refused(engine("fit", *WIDE, f"network.widths={widths}", *words), narrow)
