"""Simulated scanners from end to end: training, resuming and comparing on the fly."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.runs.run import Run
from tests.engine.tiny import scan_file, shrinking
from tests.training import rows
from volumes import LowDose, SparseView, Window
from volumes.dataset import Case, find_cases
from volumes.dataset.store import _LAYOUT, Store, default_root
from volumes.phantoms.abdomen import abdomen

KINDS = "low_dose:1e4,1e5,sparse_view:60"
NOISES = {
    "low_dose-1e4": LowDose(1e4), "low_dose-1e5": LowDose(1e5), "sparse_view-60": SparseView(60),
}  # fmt: skip
LINEAR = Window(clip=False)


@pytest.fixture(scope="module")
def scans(cpu, tmp_path_factory):
    """Four small scans, with padding, and what lies outside of the circle, of an awkward shape."""
    folder = tmp_path_factory.mktemp("scans")
    for i in range(4):
        hu, _ = abdomen((3, 32, 36), rng=np.random.default_rng(i))
        hu[:, :2, :2] = -2048
        hu[1, 10:14, 5:20] = -2048
        hu[2, 30:, 30:] = 600
        (folder / f"case_{i}").mkdir()
        scan_file(folder / f"case_{i}" / "imaging.nii.gz", hu, "LPS", spacing_mm=(3.0, 9.0, 9.0))
    return folder


@pytest.fixture(scope="module")
def degraded(scans, tmp_path_factory):
    """What `engine degrade` writes of them."""
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("degraded") / "out"
    words = ["degrade", str(scans), "--as", KINDS, "-o", str(folder), "--devices", "cpu", "-q"]
    assert run(words) == 0
    return folder


# -- The same noise as in files --------------------------------------------------------------------


@pytest.mark.parametrize("name", NOISES)
def test_the_noise_of_a_case_is_what_degrade_writes_to_the_voxel(scans, degraded, name):
    store, noise = Store(default_root()), NOISES[name]
    for case, written in zip(find_cases(scans), find_cases(degraded, name), strict=True):
        volume, file = store.volume(case, scanned=True), store.volume(written)
        clean = noise.reference(volume, slice(None))
        np.testing.assert_array_equal(clean, file.hu)
        noisy = noise.noisy(volume, LINEAR.unit(clean), LINEAR, seed=0)
        np.testing.assert_array_equal(noisy, LINEAR.unit(file.noisy_hu))


# -- Training --------------------------------------------------------------------------------------


def fit(engine, data: Path, run: Path, steps: int, name: str = "lowdose_unet2d") -> None:
    words = [*shrinking(name), f"steps={steps}", "--data", data, "--run", run, "-q"]
    code, _, error = engine("fit", name, *words)
    assert code == 0, error


def test_a_training_that_was_interrupted_ends_with_the_same_bits(scans, engine, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(engine, scans, whole, 6)
    fit(engine, scans, parts, 2)
    for folder in (default_root() / _LAYOUT).glob("sinograms/*"):
        shutil.rmtree(folder)  # they are made anew, and are the same
    fit(engine, scans, parts, 6)
    one, other = (checkpoint.fingerprint(Run(run).checkpoint("last")) for run in (whole, parts))
    assert one == other
    steps = [[row for row in rows(run) if "loss" in row] for run in (whole, parts)]
    assert steps[0] == steps[1]


def test_validation_scores_the_noisy_scan_that_degrade_writes(scans, degraded, engine, tmp_path):
    run = tmp_path / "run"
    name = "sparseview_dncnn"
    words = [word for word in shrinking(name) if not word.startswith("noise.")]
    code, _, error = engine("fit", name, *words, "steps=1", "--data", scans, "--run", run, "-q")
    assert code == 0, error
    (row,) = [row for row in rows(run) if row.get("method") == "noisy"]
    ((case, found),) = row["validation"].items()
    written = next(c for c in find_cases(degraded, "sparse_view-60") if c.name == case)
    file = Store(default_root()).volume(written)
    clean, noisy = (np.clip(LINEAR.unit(hu), 0, 1) for hu in (file.hu, file.noisy_hu))
    assert found["mse"] == pytest.approx(np.mean((clean - noisy) ** 2), rel=1e-5)


def test_what_no_scanner_measures_is_refused_before_training(photographs, engine, tmp_path):
    for data, cause in (
        (photographs, "holds no scan that could be scanned again"),
        (flat(tmp_path / "flat"), "and scanners make square ones"),
    ):
        code, _, error = engine(
            "fit", "lowdose_unet2d", *shrinking("lowdose_unet2d"), "--data", data,
            "--run", tmp_path / "run",
        )  # fmt: skip
        assert code == 3
        assert cause in error
        assert not (tmp_path / "run").exists()


def flat(folder: Path) -> Path:
    """Scans whose pixels are no squares."""
    folder.mkdir()
    for i in range(4):
        hu = np.full((2, 32, 32), i, np.int16)
        scan_file(folder / f"scan{i}.nii", hu, spacing_mm=(3.0, 0.8, 0.7))
    return folder


def test_the_demo_needs_additive_noise(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, error = engine("fit", "lowdose_unet2d", "--demo")
    assert code == 2
    assert "needs additive noise, and lowdose_unet2d has other noise" in error
    assert not list(tmp_path.iterdir())


def test_a_dose_is_set_on_the_command_line(scans, engine, tmp_path):
    words = ["--data", scans, "--run", tmp_path / "run", "--dry-run", "--json"]
    split = ["split.validation=1", "split.test=1"]
    code, out, _ = engine("fit", "lowdose_unet2d", "noise.photons=1e4,5e4", *split, *words)
    assert code == 0
    recipe = json.loads(out)["recipe"]
    assert recipe["noise"]["photons"] == [1e4, 5e4]
    assert recipe["noise"]["scanner"]["geometry"]["kind"] == "FanBeam"
    code, _, error = engine("fit", "sparseview_unet2d", "noise.views=7", *split, *words)
    assert code == 2
    assert "900 views cannot be thinned evenly to 7" in error
    code, _, error = engine("fit", "sparseview_unet2d", "crop.scales=1.0,0.7", *split, *words)
    assert code == 2
    assert "crop.scales must be 1.0 where noise is recorded or scanned" in error


# -- Comparing -------------------------------------------------------------------------------------


def compared(engine, data: Path, report: Path, *words: str) -> list[dict]:
    code, _, error = engine(
        "evaluate", "noisy", "tv", *words, "--data", data, "-o", report, "--split", "all",
        "--no-tuning", "-q",
    )  # fmt: skip
    assert code == 0, error
    return json.loads((report / "report.json").read_text())["rows"]


@pytest.fixture(scope="module")
def report(scans, tmp_path_factory):
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("compared") / "report"
    words = ["evaluate", "noisy", "tv", "--as", KINDS, "--noise", "gaussian:0.1", "--no-tuning"]
    words += ["--data", str(scans), "--split", "all", "-o", str(folder), "-q"]
    assert run(words) == 0
    return folder


def scored(report: Path) -> dict[tuple[str, str, str], dict[str, float]]:
    content = json.loads((report / "report.json").read_text())
    return {(row["level"], row["method"], row["case"]): row["scores"] for row in content["rows"]}


def test_scanned_levels_score_as_the_recorded_files_of_degrade_do(
    report, degraded, engine, tmp_path
):
    names = ",".join(NOISES)
    recorded = compared(engine, degraded, tmp_path / "r", "--noise", f"recorded:{names}")
    found = scored(report)
    assert len(recorded) == 3 * 2 * 4
    for row in recorded:
        scanned = found[row["level"], row["method"], row["case"]]
        for name, value in row["scores"].items():
            assert scanned[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
        assert set(scanned) - set(row["scores"]) == {"psnr_mu_db", "ssim_mu"}


def test_attenuation_is_scored_at_scanned_levels_alone(report, degraded):
    for (level, method, case), scores in scored(report).items():
        assert ("psnr_mu_db" in scores) == (level != "10%")
        if method == "noisy" and level in NOISES:
            (written,) = [c for c in find_cases(degraded, level) if c.name == case]
            file = Store(default_root()).volume(written)
            clean = np.maximum(1 + file.hu / 1000, 0)
            mse = np.mean((1 + file.noisy_hu / 1000 - clean) ** 2, axis=(1, 2))
            psnr = 10 * np.log10(clean.max(axis=(1, 2)) ** 2 / mse)
            assert scores["psnr_mu_db"] == pytest.approx(psnr.mean(), abs=1e-3)


def test_the_report_lays_the_published_table_beside_scanned_levels(report):
    text = (report / "report.md").read_text()
    assert "**Table 5.** Scores of attenuation" in text
    assert "**Table 6.** Published by the study" in text
    assert "| sparse_view-60 | 33.28 | 0.8858 | 32.30 | 0.8560 |" in text
    assert "low_dose-1e4: a simulated scanner, 10000 photons a ray" in text
    lines = (report / "scores.csv").read_text().splitlines()
    assert lines[0].endswith("psnr_mu_db,ssim_mu")
    assert all(line.count(",") == lines[0].count(",") for line in lines)


def test_a_network_is_scored_at_the_level_it_was_trained_for(scans, engine, tmp_path):
    run = tmp_path / "sparse"
    fit(engine, scans, run, 2, "sparseview_unet2d")
    words = ["--as", "sparse_view:60", "--data", scans, "-o", tmp_path / "r"]
    code, out, error = engine("evaluate", run, "noisy", *words)
    assert code == 0, error
    assert "PSNR µ" in out
    rows = json.loads((tmp_path / "r" / "report.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["sparse", "noisy"]
    assert all(np.isfinite(row["scores"]["psnr_mu_db"]) for row in rows)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--as", "gaussian:0.1"], "--as: names no scanner. Write such as --noise gaussian:0.1"),
        (["--as", "low_dose:1e5", "--noise", "recorded:low_dose-1e5"], "and so does --noise"),
        (["--as", "sparse_view:7"], "900 views cannot be thinned evenly to 7"),
    ],
)
def test_levels_that_cannot_be_compared_are_refused(scans, engine, tmp_path, words, told):
    code, _, error = engine("evaluate", "noisy", *words, "--data", scans, "-o", tmp_path / "r")
    assert code == 2
    assert told in error


def test_what_no_scanner_measures_is_not_compared(photographs, engine, tmp_path):
    words = ["--as", "low_dose:1e5", "--split", "all", "--data", photographs]
    code, _, error = engine("evaluate", "noisy", *words, "-o", tmp_path / "r")
    assert code == 3
    assert "holds no scan that could be scanned again" in error


@pytest.mark.real_ct
def test_a_real_slice_of_few_views_is_as_bad_as_measured_elsewhere(cpu, real_ct):
    from engine.scoring.metrics import attenuation_scores

    whole = Store(default_root()).volume(Case("real", real_ct / "case_00003" / "imaging.nii.gz"))
    volume = replace(whole, hu=whole.hu[8:9])
    noises = [SparseView(60), SparseView(90), SparseView(180), *map(LowDose, (7e4, 1e5, 2e5, 1e6))]
    clean = LowDose().reference(volume, slice(None))
    psnr = []
    for noise in noises:
        noisy = noise.noisy(volume, LINEAR.unit(clean), LINEAR, seed=0)
        psnr.append(attenuation_scores(clean, LINEAR.hu(noisy))["psnr_mu_db"])
    # Five slices of another collection, by another implementation. (Low doses depend on the size
    # of the patient, streaks hardly do.)
    for found, (low, high) in zip(psnr[:3], ((24, 28.4), (27, 31.3), (33, 37.6)), strict=True):
        assert low < found < high
    assert psnr[:3] == sorted(psnr[:3])
    assert psnr[3:] == sorted(psnr[3:])
