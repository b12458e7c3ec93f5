"""Runs that resume with another recipe, machine or clock."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.checkpoints import checkpoint
from engine.recipe.recipe_file import find_recipe
from engine.runs.own_settings import is_named
from engine.runs.run import Run
from tests.engine.tiny import shrinking
from tests.gates.ledger import Faults
from tests.training import rows, train

YEAR_S = 365 * 86400.0
Fit = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def whole(cpu, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of 4 steps, with checkpoints at 2 and 4."""
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run(["fit", "unet3d", *shrinking(), "--data", str(dataset), "--run", str(folder)]) == 0
    return folder


@pytest.fixture
def half(whole: Path, tmp_path: Path) -> Path:
    """The same run after its first two steps."""
    folder = tmp_path / "half"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints" / "step-00000004")
    return folder


@pytest.fixture
def go_on(engine, dataset: Path, half: Path) -> Fit:
    """Resumes the half run: (exit code, stdout, stderr)."""

    def call(*more: str, data: Path = dataset) -> tuple[int, str, str]:
        return engine("fit", "unet3d", *shrinking(), "--data", data, "--run", half, "-q", *more)

    return call


def last(folder: Path) -> str:
    return checkpoint.fingerprint(Run(folder).checkpoint("last"))


def about(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def state(folder: Path) -> dict[str, bytes]:
    """Every byte of a run but that of its lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.gate("G4")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("network.width=4", "network.width: 2 -> 4"),
        ("network.levels=1", "network.levels: 2 -> 1"),
    ],
)
def test_another_structure_is_refused_even_with_accept_changes(
    faults: Faults, go_on: Fit, half: Path, change: str, told: str
) -> None:
    before = state(half)
    for consent in ((), ("--accept-changes",)):
        code, out, err = go_on(change, *consent)
        assert (code, out) == (5, "")
        assert err.startswith(f"engine: error: {half}: holds a run of another recipe ({told}).")
        assert err.count("\n") == 1
        assert "--accept-changes" not in err
        assert state(half) == before
        faults.handled()


LEARNED = [
    ("batch=4", "batch: 2 -> 4", False),
    ("seed=7", "seed: 0 -> 7", False),
    ("learning_rate=2e-3", "learning_rate.rate: 0.001 -> 0.002", False),
    ("crop.shape=8,32,32", "crop.shape: [8, 16, 16] -> [8, 32, 32]", False),
    ("clip_norm=1", "clip_norm: 0.0 -> 1.0", False),
    ("noise.sigma=0.2", "noise.sigma: 0.1 -> 0.2", True),
    ("window.high_hu=300", "window.high_hu: 400 -> 300.0", True),
    ("validate_slices=2", "validate_slices: 4 -> 2", True),
]


@pytest.mark.gate("G4")
@pytest.mark.parametrize(("change", "told", "rescored"), LEARNED)
def test_another_value_is_refused_without_accept_changes_and_recorded_with_it(
    faults: Faults, go_on: Fit, half: Path, change: str, told: str, rescored: bool
) -> None:
    before = state(half)
    code, out, err = go_on(change)
    assert (code, out) == (5, "")
    assert told in err
    assert "--accept-changes" in err
    assert err.count("\n") == 1
    assert state(half) == before
    best = Run(half).checkpoint("last"), 0.0
    # As if the second step had scored better than any later one will.
    path = best[0] / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"best_step": 2, "best_mse": 1e-9}))
    manifest = json.loads((best[0] / "MANIFEST.json").read_text())
    from volumes.storage.digest import sha256

    (best[0] / "MANIFEST.json").write_text(json.dumps(manifest | {"state.json": sha256(path)}))
    code, _, err = go_on(change, "--accept-changes")
    assert (code, err) == (0, "")
    (noted,) = about(half)["changes"]
    assert (noted["from_step"], noted["changed"]) == (2, [told])
    assert noted["rescored"] is rescored
    progress = checkpoint.verified(Run(half).checkpoint("last"))
    assert progress.best_step == (4 if rescored else 2)
    assert [row["step"] for row in rows(half) if row.get("method") == "noisy"] == (
        [0, 2] if rescored else [0]
    )
    # From here on that is its recipe: the former value is a change.
    name, before = told.split(" -> ")[0].split(": ")
    assert go_on(f"{name}={before.strip('[]').replace(' ', '')}")[0] == 5
    assert len(about(half)["changes"]) == 1
    faults.handled()


@pytest.mark.gate("G4")
@pytest.mark.parametrize("change", ["validate_every=1", "checkpoint_every=1", "steps=4"])
def test_changes_without_effect_on_learning_resume_bitwise(
    faults: Faults, go_on: Fit, half: Path, whole: Path, change: str
) -> None:
    assert go_on(change)[0] == 0
    assert last(half) == last(whole)
    assert "changes" not in about(half)
    faults.handled()


# -- Overrides that the command does not repeat ----------------------------------------------------


@pytest.fixture
def resume(engine, dataset: Path, half: Path) -> Fit:
    """Resumes the half run by a command that names only what it is given."""

    def call(*words: str | Path) -> tuple[int, str, str]:
        return engine("fit", *words, "--data", dataset, "--run", half)

    return call


def forget(run: Path, *names: str) -> None:
    """Removes entries of run.json, as if an earlier version had written it."""
    content = {name: value for name, value in about(run).items() if name not in names}
    (run / "run.json").write_text(json.dumps(content))


def edited(folder: Path, old: str, new: str) -> Path:
    """A copy of the recipe file with other text."""
    path = folder / "edited.py"
    text = find_recipe("unet3d").read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.gate("G4")
def test_a_run_goes_on_with_every_override_that_the_command_leaves_out(
    faults: Faults, resume: Fit, half: Path, whole: Path
) -> None:
    saved = shutil.copytree(half, half.with_name("saved"))
    for left_out in [(word,) for word in shrinking()] + [tuple(shrinking())]:
        shutil.rmtree(half)
        shutil.copytree(saved, half)
        code, _, err = resume("unet3d", *(word for word in shrinking() if word not in left_out))
        assert code == 0
        own = [name for name in about(whole)["own_settings"] if is_named(name, left_out)]
        told = err.splitlines()[0].partition("goes on with its own ")[2]
        assert re.findall(r"([a-z_.]+)=", told) == own
        assert last(half) == last(whole)
        assert rows(half) == rows(whole)
        assert about(half)["own_settings"] == about(whole)["own_settings"]
        faults.handled()


@pytest.mark.gate("G4")
def test_a_run_resumes_without_the_name_of_its_recipe_and_without_running_code(
    faults: Faults, engine, dataset: Path, half: Path, whole: Path
) -> None:
    (half / "recipe.py").write_text("raise SystemExit('was run')")
    saved = shutil.copytree(half, half.with_name("saved"))
    for words in (("--run", half), (half,), (half, "--run", half), ("steps=4", "--run", half)):
        shutil.rmtree(half)
        shutil.copytree(saved, half)
        code, _, err = engine("fit", *words, "--data", dataset)
        assert code == 0
        assert err.startswith(f"{half}: goes on with its own recipe, ")
        assert last(half) == last(whole)
        assert about(half)["own_settings"] == about(whole)["own_settings"]
        faults.handled()
    code, _, err = engine("fit", half, "network.width=4", "--data", dataset)
    assert code == 5
    assert "network.width: 2 -> 4" in err
    faults.handled()


@pytest.mark.gate("G4")
@pytest.mark.parametrize("forgotten", [("own_settings",), ("own_settings", "command")])
def test_a_run_of_an_earlier_version_goes_on_with_its_overrides_too(
    faults: Faults, resume: Fit, half: Path, whole: Path, tmp_path: Path, forgotten: tuple[str, ...]
) -> None:
    forget(half, *forgotten)
    assert resume("unet3d")[0] == 0
    assert last(half) == last(whole)
    assert about(half)["own_settings"] == about(whole)["own_settings"]
    faults.handled()


@pytest.mark.gate("G4")
def test_the_command_of_an_earlier_version_tells_its_overrides_where_the_file_has_changed(
    faults: Faults, resume: Fit, half: Path, whole: Path, tmp_path: Path
) -> None:
    words = ["engine", "fit", "unet3d", *shrinking()]
    content = about(half) | {"command": words}
    del content["own_settings"]
    (half / "run.json").write_text(json.dumps(content))
    code, _, err = resume(edited(tmp_path, "sigma=0.10", "sigma=0.20"), "-q")
    assert code == 5
    assert "holds a run of another recipe (noise.sigma: 0.1 -> 0.2). " in err
    faults.handled()
    assert resume(edited(tmp_path, "recipe = ", "# Mine.\nrecipe = "), "-q")[0] == 0
    assert last(half) == last(whole)
    faults.handled()


@pytest.mark.gate("G4")
def test_a_run_that_was_killed_before_its_recipe_was_written_keeps_its_overrides(
    faults: Faults, resume: Fit, half: Path, whole: Path
) -> None:
    for lost in (("recipe.json",), ("recipe.json", "recipe.py")):
        for path in half.iterdir():
            if path.name in lost or path.name not in ("run.json", "recipe.py"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        forget(half, "saved")
        assert resume("unet3d")[0] == 0
        assert last(half) == last(whole)
        faults.handled()


@pytest.mark.gate("G4")
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("sigma=0.10", "sigma=0.20", "noise.sigma: 0.1 -> 0.2"),
        ("width=32", "width=16", "network.width: 2 -> 16"),  # although the run has its own
    ],
)
def test_an_edited_recipe_file_is_a_change(
    faults: Faults, resume: Fit, half: Path, tmp_path: Path, old: str, new: str, told: str
) -> None:
    before = state(half)
    code, _, err = resume(edited(tmp_path, old, new), "-q")
    assert code == 5
    assert f"holds a run of another recipe ({told}). " in err
    assert state(half) == before
    faults.handled()


@pytest.mark.gate("G4")
def test_other_steps_stay_the_run_s_until_a_command_names_others(
    faults: Faults, resume: Fit, half: Path, whole: Path, tmp_path: Path
) -> None:
    assert resume("unet3d", "--steps", "6")[0] == 0
    assert resume("unet3d")[0] == 0  # and adds none
    assert [row["step"] for row in rows(half) if "loss" in row] == [1, 2, 3, 4, 5, 6]
    faults.handled()
    # What the file says counts where it was edited.
    code, _, err = resume(edited(tmp_path, "steps=100_000", "steps=7"), "checkpoint_every=1")
    assert code == 0
    assert "steps=" not in err.splitlines()[1]
    assert max(row["step"] for row in rows(half) if "loss" in row) == 7
    faults.handled()


@pytest.mark.gate("G4")
def test_another_recipe_s_name_is_refused_whatever_the_run_has_of_its_own(
    faults: Faults, resume: Fit, half: Path
) -> None:
    before = state(half)
    for name in ("unet2d", "respr_unet3d"):
        code, _, err = resume(name, "-q")
        assert code == 5
        assert "holds a run of another recipe" in err
        assert state(half) == before
        faults.handled()


@pytest.mark.gate("G4")
def test_fresh_starts_from_the_command_alone(
    faults: Faults, engine, dataset: Path, half: Path
) -> None:
    fresh = ("fit", "unet3d", *shrinking()[:-1], "--data", dataset, "--run", half, "--fresh", "-q")
    assert engine(*fresh)[0] == 0
    assert Run(half).recipe().learning_rate.rate == 1e-4
    assert "learning_rate.rate" not in about(half)["own_settings"]
    code, _, err = engine("fit", half, "--fresh", "--data", dataset)
    assert code == 2
    assert f"{half}: is a run, and --fresh starts from a recipe" in err
    faults.handled(2)


@pytest.mark.gate("G4")
def test_a_damaged_record_of_own_settings_is_refused_in_one_line_or_not_used(
    faults: Faults, resume: Fit, half: Path
) -> None:
    content = about(half)
    for damage in ({"network.width": {"file": 32, "run": "2"}}, {"a.b": {"file": 1, "run": 2}},
                   {"network": {"file": 32, "run": {"kind": "os.system"}}},
                   {"crop.shape": {"file": [32, 256, 256], "run": [7, 7, 7]}},
                   {"network.width": 3}, [3], "x"):  # fmt: skip
        (half / "run.json").write_text(json.dumps(content | {"own_settings": damage}))
        before = state(half)
        code, _, err = resume("unet3d", *shrinking(), "steps=3", "-q")
        refused = code == 5 and err.startswith(f"engine: error: {half}: ") and err.count("\n") == 1
        assert refused or code == 0, err
        if refused:
            assert state(half) == before
        faults.handled()


@pytest.mark.gate("G4")
def test_a_dry_run_shows_the_recipe_that_would_be_resumed(
    faults: Faults, resume: Fit, half: Path
) -> None:
    before = state(half)
    code, out, err = resume("unet3d", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["recipe"] == json.loads((half / "recipe.json").read_text())
    assert f"{half}: goes on with its own " in err
    assert state(half) == before
    faults.handled()


@pytest.mark.gate("G4")
def test_a_longer_run_warns_where_its_schedule_jumps(
    faults: Faults, go_on: Fit, half: Path, engine, dataset: Path
) -> None:
    code, _, err = go_on("steps=6")
    assert (code, err) == (0, "")
    assert [row["step"] for row in rows(half) if "loss" in row] == [1, 2, 3, 4, 5, 6]
    folder = half.with_name("cosine")
    call = ("fit", "unet3d", *shrinking(), "--data", dataset, "--run", folder, "-q")
    assert engine(*call, "learning_rate=cosine:1e-3,1e-5", "steps=2")[0] == 0
    code, _, err = engine(*call, "learning_rate=cosine:1e-3,1e-5", "steps=4")
    assert code == 0
    assert "has 4 steps now: its learning rate continues at" in err
    faults.handled(2)


@pytest.mark.gate("G4")
@pytest.mark.parametrize("years", [1, -1])
def test_a_clock_that_jumps_changes_nothing(
    faults: Faults, go_on: Fit, half: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    now, now_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: now() + years * YEAR_S)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + int(years * YEAR_S * 10**9))

    class Jumped(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(365 * years)

    monkeypatch.setattr(datetime, "datetime", Jumped)
    # What lies there was written at times that make no sense, the newest first.
    for n, path in enumerate(sorted(half.rglob("*"))):
        os.utime(path, (now() - n * years * YEAR_S / 10,) * 2)
    code, _, err = go_on()
    assert (code, err) == (0, "")
    assert last(half) == last(whole)
    assert rows(half) == rows(whole)
    lines = (half / "metrics.jsonl").read_text().splitlines()
    assert all(0 <= json.loads(line).get("seconds", 0) < 600 for line in lines)
    faults.handled()


@pytest.mark.gate("G4")
def test_a_cluster_of_one_in_the_environment_changes_nothing(
    faults: Faults, go_on: Fit, half: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    code, _, err = go_on()
    assert (code, err) == (0, "")
    assert last(half) == last(whole)
    faults.handled()


@pytest.mark.gate("G4")
def test_another_precision_resumes_with_a_warning_that_bits_differ(
    faults: Faults, go_on: Fit, half: Path
) -> None:
    told = f"engine: warning: {half}: precision changed: resumed, not to the bit\n"
    scales = {"bfloat16": 1.0, "float16": 2.0**15, "float32": 1.0}
    for steps, (precision, scale) in enumerate(scales.items(), 3):
        code, _, err = go_on("--precision", precision, f"steps={steps}")
        assert (code, err) == (0, told)
        arrays = checkpoint.load(Run(half).checkpoint("last"))
        assert float(arrays["loss_scale/scale"]) == scale
        faults.handled()
    assert [row["step"] for row in rows(half) if "loss" in row] == [1, 2, 3, 4, 5]


@pytest.mark.gate("G4")
def test_other_cases_are_refused_without_accept_changes_and_never_leak(
    faults: Faults, go_on: Fit, half: Path, dataset: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(dataset, data)
    cases, voxels = about(half)["cases"], about(half)["voxels"]
    # A training case is another file than it was.
    name = next(iter(cases["training"]))
    validated = next(iter(cases["validation"]))
    scan = data / name / "imaging.nii.gz"
    from volumes import nifti

    hu = nifti.open_scan(scan).read_hu()
    nifti.write_hu(scan, hu + 1, nifti.open_scan(scan).spacing_mm, overwrite=True)
    code, _, err = go_on(data=data)
    assert code == 5
    assert f"holds a run on other cases (training: {name} {cases['training'][name][:8]} -> " in err
    assert "--accept-changes" in err
    assert go_on("--accept-changes", data=data)[0] == 0
    (noted,) = about(half)["changes"]
    assert noted["from_step"] == 2
    files = {sha256: name for name, sha256 in cases["training"].items()}
    assert noted["learned_from"] == files | {voxels[name]: name for name in cases["training"]}
    # What it has learned from, now or then, cannot be what it is scored on.
    assert set(cases["training"].values()) < set(Run(half).record().learned_from)
    (data / validated / "imaging.nii.gz").write_bytes(
        (dataset / name / "imaging.nii.gz").read_bytes()
    )
    code, _, err = go_on("--accept-changes", "steps=6", data=data)
    assert code == 5
    assert f"has learned from {name}, and {validated} is for validation" in err
    faults.handled(3)


@pytest.mark.gate("G4")
def test_skip_bad_leaves_out_bad_scans_and_records_them(
    faults: Faults, engine, dataset: Path, tmp_path: Path
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(dataset, data)
    fit = (
        "fit",
        "unet3d",
        *shrinking(),
        "split.validation=case_00000",
        "split.test=0",
        "--data",
        data,
        "--run",
        run,
        "-q",
    )
    bad = [data / f"case_0000{i}" / "imaging.nii.gz" for i in (1, 3)]
    whole = [path.read_bytes() for path in bad]
    bad[0].write_bytes(b"<html>not found</html>")  # by its header
    bad[1].write_bytes(whole[1][:-6] + b"\0" + whole[1][-5:])  # by the checksum at its end
    code, out, err = engine(*fit)
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "2 scans cannot be used" in err
    assert all(str(path) in err for path in bad)
    assert not (run / "run.json").exists()
    code, _, err = engine(*fit, "--skip-bad")
    assert code == 0
    assert err.count("left out") == 2
    left = {name for side in about(run)["left_out"].values() for name in side}
    assert left == {"case_00001", "case_00003"}
    held = about(run)["cases"]
    assert not left & {name for side in held.values() for name in side}
    # The others stay on the sides that they would have had.
    assert engine(*fit, "--skip-bad", "steps=5")[0] == 0
    # A scan that is mended is another case: that is for the user to want.
    for path, block in zip(bad, whole, strict=True):
        path.write_bytes(block)
    code, _, err = engine(*fit, "steps=6")
    assert code == 5
    assert "none -> case_0000" in err
    faults.handled(3)


@pytest.mark.gate("G4")
def test_other_replicas_follow_the_same_loss_curve_with_a_warning(
    faults: Faults, dataset: Path, tmp_path: Path
) -> None:
    train(dataset, tmp_path / "one", "steps=8")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "step-00000008")
    # The sixth to eighth step once more, shared by two devices.
    told = train(dataset, tmp_path / "two", "steps=8", "--devices", "cpu:2")
    assert "devices, replicas changed: resumed, not to the bit" in told
    curves = [
        {row["step"]: row["loss"] for row in rows(tmp_path / name) if "loss" in row}
        for name in ("one", "two")
    ]
    assert curves[1] == pytest.approx(curves[0], rel=0, abs=1e-5)
    faults.handled()
