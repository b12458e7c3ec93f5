"""Recorded noise from end to end: training, resuming and comparing on scans beside scans."""

import json
import shutil

import numpy as np
import pytest

from engine.runs.run import Run
from tests.engine.tiny import shrinking
from volumes import nifti

RECIPE = """
from dataclasses import replace

from engine.recipe.recipe_file import find_recipe, load_recipe
from volumes import Recorded

recipe = replace(load_recipe(find_recipe("dncnn_plain")), noise=Recorded("quarter"))
"""
OFFSET_HU = 70


@pytest.fixture(scope="module")
def recorded(dataset, tmp_path_factory):
    """Scans with a recording beside each: 70 HU brighter, under noise of 30 HU."""
    folder = tmp_path_factory.mktemp("recorded") / "data"
    shutil.copytree(dataset, folder)
    for i, scan in enumerate(sorted(folder.glob("*/imaging.nii.gz"))):
        clean = nifti.open_scan(scan)
        hu = clean.read_hu()
        noise = np.random.default_rng(i).normal(OFFSET_HU, 30, hu.shape)
        noisy = np.rint(hu + noise).astype(np.int16)
        nifti.write_hu(scan.with_name("quarter.nii.gz"), noisy, clean.spacing_mm)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "quarter.py"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def run(cpu, recorded, recipe, tmp_path_factory):
    """A run that learned for long enough to see that the recordings are brighter."""
    from engine.cli.main import run as call

    folder = tmp_path_factory.mktemp("runs") / "quarter"
    words = [*shrinking("dncnn_plain"), "steps=60", "validate_every=60", "learning_rate=1e-2"]
    where = ["--data", str(recorded), "--run", str(folder), "-q"]
    assert call(["fit", str(recipe), *words, *where]) == 0
    return folder


def metrics(run):
    return [json.loads(line) for line in Run(run).metrics.read_text().splitlines()]


def test_a_network_learns_from_recordings(run):
    rows = {row["method"]: row["mean"] for row in metrics(run) if "method" in row}
    # The recording is brighter by 70 HU; where the window ends, a little less.
    assert rows["noisy"]["rmse_hu"] == pytest.approx(np.hypot(OFFSET_HU, 30), rel=0.2)
    assert rows["network"]["rmse_hu"] < 0.7 * rows["noisy"]["rmse_hu"]


def test_a_run_notes_its_recordings_and_refuses_others(run, recorded, recipe, engine, tmp_path):
    noted = json.loads((run / "run.json").read_text())["recordings"]
    assert sorted(noted) == sorted(path.name for path in recorded.iterdir())
    other, copy = tmp_path / "data", tmp_path / "run"
    shutil.copytree(recorded, other)
    shutil.copytree(run, copy)
    scans = sorted(other.glob("*/quarter.nii.gz"))
    shutil.copy(scans[0], scans[1])
    words = [*shrinking("dncnn_plain"), "steps=70", "validate_every=60", "learning_rate=1e-2"]
    code, _, error = engine("fit", recipe, *words, "--data", other, "--run", copy)
    assert code == 5
    assert "holds a run on other recordings" in error


def test_a_missing_recording_is_refused_before_training(recorded, recipe, engine, tmp_path):
    other = tmp_path / "data"
    shutil.copytree(recorded, other)
    missing = sorted(other.glob("*/quarter.nii.gz"))[2]
    missing.unlink()
    code, _, error = engine(
        "fit", recipe, *shrinking("dncnn_plain"), "--data", other, "--run", tmp_path / "r"
    )
    assert code == 3
    assert f"has no quarter.nii.gz beside imaging.nii.gz in {missing.parent.name}" in error
    assert not (tmp_path / "r" / "recipe.json").exists()


def test_methods_are_compared_on_recordings(run, recorded, engine, tmp_path):
    report = tmp_path / "report"
    words = ["--noise", "recorded:quarter", "--data", recorded, "-o", report, "-q"]
    code, _, error = engine("evaluate", run, "noisy", "tv", *words)
    assert code == 0, error
    content = json.loads((report / "report.json").read_text())
    found = {entry["method"]: entry for entry in content["summary"]}
    assert {entry["level"] for entry in found.values()} == {"quarter"}
    assert found["noisy"]["bias_hu"]["mean"] == pytest.approx(OFFSET_HU, rel=0.05)
    assert abs(found["quarter"]["bias_hu"]["mean"]) < 0.6 * OFFSET_HU
    assert found["tv"]["bias_hu"]["mean"] == pytest.approx(OFFSET_HU, rel=0.1)
    assert "recorded in quarter.nii.gz" in (report / "report.md").read_text()


def test_a_level_without_recordings_is_refused(recorded, engine, tmp_path):
    words = ["--noise", "recorded:half", "--data", recorded, "--split", "all"]
    code, _, error = engine("evaluate", "noisy", *words, "-o", tmp_path / "report")
    assert code == 3
    assert "half.nii.gz" in error


def test_a_set_of_pairs_is_evaluated_in_its_own_window(pairs, engine, tmp_path):
    report = tmp_path / "report"
    words = ["--noise", "recorded:noisy", "--data", pairs, "--split", "all", "--no-tuning"]
    code, _, error = engine("evaluate", "noisy", "tv", *words, "-o", report, "-q")
    assert code == 0, error
    content = json.loads((report / "report.json").read_text())
    assert content["data_range"] == {"low_hu": 0, "high_hu": 10_000, "clip": False}
    noisy, tv = (entry["psnr_db"]["mean"] for entry in content["summary"])
    assert noisy == pytest.approx(20, abs=1)  # noise of a tenth of the range
    assert tv > noisy + 3


def as_bytes(pairs, folder):
    """The set as a tool saves it that knows bytes only."""
    with np.load(pairs) as arrays:
        made = {k: np.rint(np.clip(v, 0, 1) * 255).astype(np.uint8) for k, v in arrays.items()}
    np.savez(folder / "bytes.npz", **made)
    return folder / "bytes.npz"


def test_a_set_of_bytes_is_trained_on_and_evaluated_as_the_set_of_floats(
    cpu, pairs, engine, tmp_path
):
    scores = []
    for data, told in ((pairs, "0..1 of float32"), (as_bytes(pairs, tmp_path), "0..255 of uint8")):
        run, report = tmp_path / f"run_{data.stem}", tmp_path / f"report_{data.stem}"
        code, _, error = engine("fit", "cnn4", *shrinking("cnn4"), "--data", data, "--run", run)
        assert code == 0, error
        assert f"{data}: read as grey values {told}\n" in error
        top = 1 if "float" in told else 255
        noted = json.loads((run / "run.json").read_text())["grey_values"]
        assert noted == {told.split()[-1]: top}
        words = ["--noise", "recorded:noisy", "--data", data, "--split", "test", "-o", report]
        code, _, error = engine("evaluate", run, "noisy", *words)
        assert code == 0, error
        assert f"read as grey values {told}\n" in error
        content = json.loads((report / "report.json").read_text())
        scores.append([entry["psnr_db"]["mean"] for entry in content["summary"]])
    # Bytes cut the noise at black and white, and round it.
    np.testing.assert_allclose(scores[0], scores[1], atol=0.3)


def test_recordings_off_by_an_offset_are_told_in_training_and_comparison(
    recorded, recipe, engine, tmp_path
):
    words = [*shrinking("dncnn_plain"), "--data", recorded]
    code, _, told = engine("fit", recipe, *words, "--run", tmp_path / "run")
    assert code == 0, told
    assert told.count("HU above imaging.nii.gz on average. Correct its values") == 4
    words = ["--noise", "recorded:quarter", "--data", recorded, "--split", "all", "--no-tuning"]
    _, _, told = engine("evaluate", "noisy", *words, "-o", tmp_path / "report")
    assert told.count("HU above imaging.nii.gz on average. Correct its values") == 4


def test_many_bad_scans_are_told_in_lines_of_their_own_and_counted_in_a_short_one(
    recorded, recipe, engine, tmp_path
):
    data = tmp_path / "d"
    shutil.copytree(recorded, data)
    for i, scan in enumerate(sorted(data.glob("*/quarter.nii.gz"))):
        scan.write_bytes(b"<html>" if i else b"")
    words = [*shrinking("dncnn_plain"), "--data", data]
    code, _, told = engine("fit", recipe, *words, "--run", tmp_path / "run")
    assert code == 3
    *warnings, last = told.splitlines()
    assert len([line for line in warnings if "quarter.nii.gz" in line]) == 4
    assert "4 scans cannot be used: " in last
    assert "and 2 more" in last
    assert len(last) < 300 + 3 * len(str(data))


def test_a_scan_is_denoised_by_what_was_learned_from_recordings(run, recorded, engine, tmp_path):
    scan = sorted(recorded.glob("*/quarter.nii.gz"))[0]
    output = tmp_path / "denoised.nii.gz"
    code, _, error = engine("denoise", scan, "-m", run, "-o", output)
    assert code == 0, error
    before, after = (nifti.open_scan(path).read_hu().astype(float) for path in (scan, output))
    assert np.median(before - after) == pytest.approx(OFFSET_HU, abs=15)
