import csv
import json
import math

import numpy as np
import pytest

from engine.comparison import Picture, Row
from engine.refusals import CannotWrite
from engine.report import summary, table, write

SCORES = (
    "mse", "psnr_db", "ssim", "relative_l2_percent", "rmse_hu", "bias_hu", "psnr_lung_db",
    "psnr_soft_tissue_db", "psnr_bone_db", "residual_autocorrelation", "residual_at_edges",
)  # fmt: skip
PSNR = {"noisy": (20.0, 21.0, 22.0), "unet": (30.0, 33.0, 30.5), "tv": (29.0, 29.5, 31.0)}


def rows(psnr=PSNR, sigmas=(0.1,), cases=None):
    """Rows whose every score is its case's PSNR, less the level of noise."""
    return [
        Row(name, f"case_{i}", sigma, dict.fromkeys(SCORES, value - 10 * sigma))
        for sigma in sigmas
        for i in range(cases or 3)
        for name, values in psnr.items()
        for value in values[i : i + 1]
    ]


def pictures(sigmas=(0.1,)):
    slice_ = np.random.default_rng(0).normal(0, 100, (16, 16)).astype(np.float32)
    shown = {"clean": 0 * slice_, "noisy": slice_, "unet": slice_ / 5, "tv": slice_ / 3}
    return [Picture("case_0", sigma, shown) for sigma in sigmas]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a report of three methods, three cases and two levels."""
    sigmas = (0.02, 0.1)
    about = {"protocol": "volumes", "cases": {"case_0": "ab", "case_1": "cd", "case_2": "ef"}}
    folder = tmp_path_factory.mktemp("written") / "new" / "report"
    return folder, write(folder, about, rows(sigmas=sigmas), pictures(sigmas))


# -- The summary -----------------------------------------------------------------------------------


def test_the_spread_over_two_cases_is_that_of_a_pencil():
    (entry,) = summary(rows({"unet": (30.0, 33.0)}, sigmas=(0.0,), cases=2))
    expected = {"mean": 31.5, "std": pytest.approx(3 / math.sqrt(2)), "interval_95": (30.0, 33.0)}
    for name in SCORES:
        assert entry[name] == expected
    assert entry["cases"] == 2


def test_one_case_has_a_mean_and_neither_spread_nor_interval_nor_test():
    noisy, unet = summary(rows({"noisy": (20.0,), "unet": (30.0,)}, sigmas=(0.0,), cases=1))
    assert unet["psnr_db"] == {"mean": 30.0, "std": 0.0, "interval_95": None}
    assert noisy["p_to_best"] is None


def test_methods_are_tested_against_the_one_of_the_highest_mean():
    p = {entry["method"]: entry["p_to_best"] for entry in summary(rows())}
    assert p["unet"] is None
    assert p["noisy"] == pytest.approx(2 / 2**3)
    # Differences 1, 3.5, -0.5: two of the eight flips reach their sum.
    assert p["tv"] == pytest.approx(2 * 2 / 8)


def test_methods_of_equal_scores_do_not_differ():
    same = {"one": PSNR["unet"], "other": PSNR["unet"]}
    assert [entry["p_to_best"] for entry in summary(rows(same))] == [None, 1.0]


def test_every_level_has_an_entry_of_its_own_for_every_method():
    entries = summary(rows(sigmas=(0.02, 0.1)))
    found = [(entry["sigma"], entry["method"]) for entry in entries]
    assert found == [(sigma, name) for sigma in (0.02, 0.1) for name in PSNR]
    assert [entry["psnr_db"]["mean"] for entry in entries[::3]] == pytest.approx([20.8, 20.0])
    assert all(entry["cases"] == 3 for entry in entries)


def test_the_best_method_of_a_level_need_not_be_that_of_another():
    low, high = rows(sigmas=(0.02,)), rows({"unet": PSNR["tv"], "tv": PSNR["unet"]})
    best = [entry["method"] for entry in summary(low + high) if entry["p_to_best"] is None]
    assert best == ["unet", "tv"]


# -- The table -------------------------------------------------------------------------------------


def test_the_table_gives_the_mean_and_the_deviation_of_every_column():
    columns, cells = table(summary(rows({"unet": (30.0, 33.0)}, sigmas=(0.0,), cases=2)))
    row = dict(zip(columns, cells[0], strict=True))
    assert row["PSNR (dB)"] == "31.50 ± 2.12"
    assert row["SSIM"] == "31.5000 ± 2.1213"
    assert row["RMSE (HU)"] == "31.5 ± 2.1"
    assert row["p to best"] == ""


@pytest.mark.parametrize(
    ("sigma", "shown"), [(0.1, "10%"), (0.05, "5%"), (0.07, "7%"), (0.025, "2.5%"), (0.004, "0.4%")]
)
def test_the_table_tells_the_levels_apart(sigma, shown):
    columns, cells = table(summary(rows(sigmas=(sigma,))))
    assert {row[columns.index("noise")] for row in cells} == {shown}


def test_the_table_shows_the_p_value_of_all_but_the_best():
    columns, cells = table(summary(rows()))
    assert columns[-1] == "p to best"
    assert [row[-1] for row in cells] == ["0.250", "", "0.500"]


# -- The files -------------------------------------------------------------------------------------


def test_every_file_that_is_named_is_there(written):
    folder, paths = written
    assert all(path.stat().st_size > 100 for path in paths)
    assert {path.name for path in paths} == {
        "scores.csv", "report.json", "report.md", "slices-0.02.png", "slices-0.1.png", "cases.png",
        "levels.png",
    }  # fmt: skip
    assert sorted(folder.iterdir()) == sorted(paths)


def test_the_csv_holds_every_score_to_the_last_digit(tmp_path):
    third = {"unet": (100 / 3, 1e-17, 30.0)}
    write(tmp_path, {}, rows(third, sigmas=(0.1,)), [])
    with open(tmp_path / "scores.csv", newline="") as file:
        found = list(csv.DictReader(file))
    for row, expected in zip(found, rows(third, sigmas=(0.1,)), strict=True):
        assert (row["method"], row["case"], row["sigma"]) == ("unet", expected.case, "0.1")
        assert {name: float(row[name]) for name in SCORES} == expected.scores


def test_the_json_holds_what_was_compared_the_summary_and_the_rows(written):
    content = json.loads((written[0] / "report.json").read_text())
    assert content["protocol"] == "volumes"
    assert content["cases"]["case_1"] == "cd"
    expected = rows(sigmas=(0.02, 0.1))
    assert [row["scores"] for row in content["rows"]] == [row.scores for row in expected]
    assert content["summary"][1]["method"] == "unet"
    assert content["summary"][1]["psnr_db"]["mean"] == pytest.approx(31.1666667 - 0.2)


def test_the_markdown_holds_a_line_for_every_method_and_level(written):
    lines = (written[0] / "report.md").read_text().splitlines()
    assert '- protocol: "volumes"' in lines
    table_ = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table_}) == 1
    starts = [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in table_[2:]]
    assert starts == [(name, noise) for noise in ("2%", "10%") for name in PSNR]


def test_the_same_result_is_the_same_bytes(written):
    folder, paths = written
    before = {path: path.read_bytes() for path in paths}
    about = {"protocol": "volumes", "cases": {"case_0": "ab", "case_1": "cd", "case_2": "ef"}}
    write(folder, about, rows(sigmas=(0.02, 0.1)), pictures((0.02, 0.1)))
    assert {path: path.read_bytes() for path in paths} == before


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(CannotWrite):
        write(tmp_path / "report", {}, rows(), [])
    assert (tmp_path / "report").read_text() == "mine"
