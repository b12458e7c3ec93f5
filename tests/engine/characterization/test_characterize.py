"""`engine characterize`, from the command line to the report."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from engine.cli.main import run
from engine.errors import BadUsage
from volumes import nifti

QUICK = ["--dose", "3e4,3e5", "--realisations", "16", "--pixel", "1.5", "--filter", "hann"]


@pytest.fixture(scope="module")
def report(cpu, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("characteristics")
    body = np.full((3, 128, 128), -1000, np.int16)
    y, x = np.mgrid[:128, :128] - 63.5
    body[:, np.hypot(x, y) < 55] = 60
    nifti.write_hu(folder / "scan.nii.gz", body, (3.0, 2.0, 2.0))
    out = folder / "report"
    words = ["characterize", "tv", *QUICK, "--scan", str(folder / "scan.nii.gz"), "-o", str(out)]
    assert run(words) == 0
    return out


def test_the_report_has_tables_figures_and_every_number(report) -> None:
    text = (report / "report.md").read_text()
    for number in range(1, 8):
        assert f"**Table {number}.**" in text
    for name in ("images", "noise_power", "task_transfer", "hu_bias", "detectability"):
        assert (report / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({name}.png)" in text
    content = json.loads((report / "report.json").read_text())
    assert content["realisations"] == 16
    assert content["scan"]["lesions"]
    assert content["scan"]["slice"] == 1  # the middle of three, which was not named
    assert "set into slice 1 of" in text
    with open(report / "quantities.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(content["quantities"])
    doses = {(row["method"], float(row["photons"])) for row in rows}
    assert doses == {(m, d) for m in ("reconstruction", "tv") for d in (3e4, 3e5)}


def test_a_method_is_told_what_it_does_to_psnr_and_to_detectability(report) -> None:
    told = json.loads((report / "report.json").read_text())["remarks"]
    assert len([text for text in told if text.startswith("tv at 3e4 photons")]) == 2
    assert all("mean AUC" in text or "a lower dose would tell more" in text for text in told)


def test_an_existing_report_is_refused(report, capsys) -> None:
    assert run(["characterize", "tv", *QUICK, "-o", str(report)]) == 4
    assert "report.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--dose", "many"], "--dose"),
        (["--dose", "1e5,1e5"], "--dose"),
        (["--dose", "0"], "--dose"),
        (["--realisations", "15"], "--realisations"),
        (["--phantom", "water"], "--phantom"),
        (["--filter", "sharp"], "--filter"),
        (["--beam", "cone"], "--beam"),
        (["--pixel", "3"], "--pixel"),
        (["--slice", "3"], "--slice"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(words, named, tmp_path, capsys) -> None:
    assert run(["characterize", "tv", *words, "-o", str(tmp_path / "out")]) == 2
    assert f"engine: error: {named}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_method_that_is_given_the_clean_image_is_refused(tmp_path, capsys) -> None:
    assert run(["characterize", "spade@clean", "-o", str(tmp_path / "out")]) == 2
    assert "clean image" in capsys.readouterr().err


def test_the_code_that_a_run_keeps_is_run_only_if_asked(tmp_path, monkeypatch) -> None:
    asked = []

    def resolve(words, checkpoint, *, run_code=False):
        asked.append(run_code)
        raise BadUsage("a run", "is not opened here", "Read on")

    monkeypatch.setattr("engine.characterization.characterize.resolve_methods", resolve)
    for words in (["--run-code"], []):
        assert run(["characterize", "mine", *words, "-o", str(tmp_path / "out")]) == 2
    assert asked == [True, False]


def test_a_slice_without_room_for_lesions_is_refused(tmp_path, capsys) -> None:
    air = np.full((2, 64, 64), -1000, np.int16)
    air[0, 20:40, 20:40] = 40
    nifti.write_hu(tmp_path / "air.nii.gz", air, (3.0, 1.0, 1.0))
    words = ["--scan", str(tmp_path / "air.nii.gz"), "--slice", "0", "--assume-hu"]
    assert run(["characterize", "tv", *words, "-o", str(tmp_path / "out")]) == 3
    assert "has room for 0 of 4 lesions in slice 0" in capsys.readouterr().err
