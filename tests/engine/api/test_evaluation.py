import csv
import json

import pytest

import engine
from engine.errors import BadUsage


@pytest.fixture(scope="module")
def found(cpu, trained, dataset, tmp_path_factory):
    return engine.evaluate(
        ["noisy", "tv", trained], data=dataset, noise="gaussian:0.05,0.1", slices=2,
        output=tmp_path_factory.mktemp("reports") / "report", quiet=True,
    )  # fmt: skip


def test_the_rows_are_those_of_the_report(found):
    with open(found.folder / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{n: str(v) for n, v in row.items()} for row in found.rows] == rows
    assert {row["level"] for row in found.rows} == {"5%", "10%"}
    report = json.loads((found.folder / "report.json").read_text())
    assert [entry["psnr_db"] for entry in found.summary] == [
        entry["psnr_db"] for entry in report["summary"]
    ]
    assert found.facts["cases"] == report["cases"]


def test_the_table_is_that_of_the_command(found, request, trained, dataset, tmp_path):
    code, out, _ = request.getfixturevalue("engine")(
        "evaluate", "noisy", "tv", trained, "--data", dataset, "--noise", "gaussian:0.05,0.1",
        "--slices", "2", "-o", tmp_path / "report", "-q",
    )  # fmt: skip
    assert code == 0
    lines = [line.rstrip() for line in out.splitlines() if not line.startswith(str(tmp_path))]
    assert str(found).splitlines() == lines
    assert repr(found) == str(found)


def test_the_figures_are_those_of_the_report(found):
    written = {path.stem: path.read_bytes() for path in found.folder.glob("*.png")}
    written = {name: png for name, png in written.items() if not name.startswith("closeup-")}
    assert {name: figure.png for name, figure in found.figures.items()} == written
    assert set(written) == {"slices-5pc", "slices-10pc", "cases", "levels", "noise_power"}


def test_a_notebook_shows_table_and_figures(found):
    shown = found._repr_html_()
    assert shown.count("<img ") == 5
    for row in ("noisy", "tv"):
        assert f"<td>{row}</td>" in shown
    assert "<th>SSIM</th>" in shown


def test_a_name_is_no_markup(found, monkeypatch):
    monkeypatch.setattr(found, "summary", [{**found.summary[0], "method": "<b>&"}])
    assert "<td>&lt;b&gt;&amp;</td>" in found._repr_html_()


def test_without_a_folder_no_report_is_written(cpu, dataset, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    result = engine.evaluate(["noisy"], data=dataset, slices=1, split="all", quiet=True)
    assert result.folder is None
    assert [*tmp_path.iterdir()] == []
    assert capfd.readouterr().out == ""
    assert result.figures["cases"].png.startswith(b"\x89PNG")


def test_a_refusal_has_the_words_of_the_command(dataset):
    with pytest.raises(BadUsage, match=r"^--split: takes no 'training'"):
        engine.evaluate(["noisy"], data=dataset, split="training")
