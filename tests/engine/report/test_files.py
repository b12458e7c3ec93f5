import csv
import json
import math

import numpy as np
import pytest

from engine.errors import CannotWrite
from engine.report.files import write
from engine.report.results import Picture, Row
from engine.report.summary import remarks, summary
from engine.report.tables import table
from engine.scoring.removed_noise import RemovedNoise
from engine.terminal import Terminal

FIDELITY = (
    "shift_air_hu", "shift_lung_hu", "shift_fat_hu", "shift_soft_tissue_hu", "shift_bone_hu",
    "crossing_130_hu_percent", "crossing_minus_950_hu_percent",
)  # fmt: skip
SCORES = (
    "mse", "psnr_db", "ssim", "relative_l2_percent", "rmse_hu", "bias_hu", "psnr_lung_db",
    "psnr_soft_tissue_db", "psnr_bone_db", "rmse_soft_tissue_hu", *FIDELITY,
    "residual_autocorrelation", "residual_at_edges",
)  # fmt: skip
PSNR = {"noisy": (20.0, 21.0, 22.0), "unet": (30.0, 33.0, 30.5), "tv": (29.0, 29.5, 31.0)}
ABOUT = {
    "protocol": "volumes",
    "split": "test",
    "cases": {"case_0": "ab", "case_1": "cd", "case_2": "ef"},
    "tuned_on": ["case_8", "case_9"],
    "slices": "all",
    "data_range": {"low_hu": -1000, "high_hu": 400, "clip": True},
    "ssim": "Gaussian 11 x 11",
    "noise_seed": 77,
    "prior": {"radius": 3, "of": "SliceTV()"},
    "oracles": [],
    "levels": {"2%": "white, 28 HU", "10%": "white, 140 HU"},
    "settings": {
        level: {"noisy": "Noisy()", "tv": "TotalVariation(weight=0.25)"} for level in ("2%", "10%")
    },
}


def label(sigma):
    return f"{100 * sigma:g}%"


def rows(psnr=PSNR, sigmas=(0.1,), cases=None):
    """Rows in which every score is the PSNR of the case minus the noise level."""
    noise = RemovedNoise((0.1, 0.2, 0.3), (90.0, 80.0, 70.0), (60.0, 60.0, 65.0), 5)
    return [
        Row(name, f"case_{i}", label(sigma), dict.fromkeys(SCORES, value - 10 * sigma), noise)
        for sigma in sigmas
        for i in range(cases or 3)
        for name, values in psnr.items()
        for value in values[i : i + 1]
    ]


def pictures(sigmas=(0.1,)):
    slice_ = np.random.default_rng(0).normal(0, 100, (16, 16)).astype(np.float32)
    shown = {"clean": 0 * slice_, "noisy": slice_, "unet": slice_ / 5, "tv": slice_ / 3}
    return [Picture("case_0", label(sigma), shown) for sigma in sigmas]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a report of three methods, three cases and two levels."""
    sigmas = (0.02, 0.1)
    folder = tmp_path_factory.mktemp("written") / "new" / "report"
    return folder, write(folder, ABOUT, rows(sigmas=sigmas), pictures(sigmas))


# -- The summary -----------------------------------------------------------------------------------


def test_the_deviation_over_two_cases_equals_a_calculation_by_hand():
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
    found = [(entry["level"], entry["method"]) for entry in entries]
    assert found == [(label(sigma), name) for sigma in (0.02, 0.1) for name in PSNR]
    assert [entry["psnr_db"]["mean"] for entry in entries[::3]] == pytest.approx([20.8, 20.0])
    assert all(entry["cases"] == 3 for entry in entries)


def test_the_best_method_of_a_level_need_not_be_that_of_another():
    low, high = rows(sigmas=(0.02,)), rows({"unet": PSNR["tv"], "tv": PSNR["unet"]})
    best = [entry["method"] for entry in summary(low + high) if entry["p_to_best"] is None]
    assert best == ["unet", "tv"]


def test_the_gain_is_paired_by_case_and_has_its_interval():
    noisy, unet, tv = (entry["gain_db"] for entry in summary(rows()))
    assert noisy is None
    # Gains 10, 12, 8.5 and 9, 8.5, 9: spread less than the scores they are made of.
    assert unet["mean"] == pytest.approx(30.5 / 3)
    assert unet["std"] == pytest.approx(np.std([10, 12, 8.5], ddof=1))
    assert tv["std"] == pytest.approx(np.std([9, 8.5, 9], ddof=1))
    assert tv["interval_95"] == pytest.approx((8.5, 9))
    low, high = unet["interval_95"]
    assert 8.5 <= low < unet["mean"] < high <= 12


def test_without_the_untouched_scan_there_is_no_gain():
    entries = summary(rows({"unet": PSNR["unet"], "tv": PSNR["tv"]}))
    assert [entry["gain_db"] for entry in entries] == [None, None]


def test_a_method_that_left_the_finite_is_not_the_best():
    entries = summary(rows({"broken": (math.nan, 99.0, 99.0), "unet": PSNR["unet"]}))
    assert entries[1]["p_to_best"] is None


def undefined(name, value, case=1):
    """Rows in which a score of one case is finite for no method."""
    found = rows()
    for row in found:
        if row.case == f"case_{case}":
            row.scores[name] = value
    return found


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["ssim", "relative_l2_percent", "psnr_lung_db", "psnr_db"])
def test_a_case_without_a_score_is_left_out_of_its_mean_alone(name, value):
    entries = {entry["method"]: entry for entry in summary(undefined(name, value))}
    unet = entries["unet"]
    assert unet[name]["mean"] == pytest.approx((30.0 + 30.5) / 2 - 1)
    assert unet["rmse_hu"]["mean"] == pytest.approx((30.0 + 33.0 + 30.5) / 3 - 1)
    gain = (10 + 8.5) / 2 if name == "psnr_db" else (10 + 12 + 8.5) / 3
    assert unet["gain_db"]["mean"] == pytest.approx(gain)
    assert unet["left_out"] == {name: ["case_1"]}


def test_a_score_that_no_case_has_is_told_as_it_is():
    (entry,) = summary(rows({"oracle": (math.inf, math.inf)}, cases=2))
    assert (entry["psnr_db"]["mean"], entry["left_out"]) == (math.inf, {})


# -- Remarks ---------------------------------------------------------------------------------------


def test_methods_that_are_worse_than_their_input_are_named_with_their_level():
    low = rows({"noisy": PSNR["noisy"], "unet": (19.0, 20.0, 22.5)}, sigmas=(0.02,))
    high = rows({"noisy": PSNR["noisy"], "unet": PSNR["unet"]}, sigmas=(0.1,))
    told = remarks(summary(low + high))[0]
    assert told == "Worse than the untouched scan: unet at 2% (-0.50 dB)."


def test_a_method_that_left_the_finite_is_worse_than_its_input():
    told = remarks(summary(rows({"noisy": PSNR["noisy"], "broken": (math.nan, 99.0, 99.0)})))[0]
    assert told.startswith("Worse than the untouched scan: broken at 10%")


def test_a_remark_says_that_no_method_is_worse_than_its_input():
    assert remarks(summary(rows()))[0] == "No method is worse than the untouched scan."


def test_without_the_untouched_scan_there_is_no_remark_on_harm():
    told = remarks(summary(rows({"unet": PSNR["unet"]})))
    assert "untouched" not in " ".join(told)


def test_a_remark_names_what_was_left_out():
    told = remarks(summary(undefined("ssim", math.nan)))
    assert "Left out of means at 10%, because undefined: ssim of case_1." in told


@pytest.mark.parametrize(("cases", "least"), [(2, "0.5"), (3, "0.25")])
def test_a_remark_defines_p_and_its_least_value(cases, least):
    told = remarks(summary(rows(cases=cases)))[-1]
    assert "sign-flip permutation" in told
    assert f"{cases} cases allow no p below {least}:" in told


def test_one_case_is_not_tested():
    assert remarks(summary(rows(cases=1)))[-1] == "p: not tested, there is 1 case."


# -- The table -------------------------------------------------------------------------------------


def cells(entries):
    """The table's rows by the first line of each column's title."""
    columns, found = table(entries, "HU")
    return [dict(zip((c.split("\n")[0] for c in columns), row, strict=True)) for row in found]


def test_the_table_gives_means_and_the_deviation_of_psnr():
    (row,) = cells(summary(rows({"unet": (30.0, 33.0)}, sigmas=(0.0,), cases=2)))
    assert row == {
        "method": "unet", "noise": "0%", "PSNR": "31.50 ± 2.12", "SSIM": "31.5000",
        "rel. L2": "31.50", "RMSE": "31.5", "bias": "31.50", "gain": "", "p": "",
    }  # fmt: skip


def test_every_number_of_the_table_has_its_unit():
    columns, _ = table(summary(rows()), "HU")
    assert [c.split("\n")[1] for c in columns if "\n" in c] == [
        "(dB)",
        "(%)",
        "(HU)",
        "(HU)",
        "(dB)",
    ]


def test_the_table_has_a_row_for_each_level():
    found = cells(summary(rows(sigmas=(0.02, 0.1))))
    assert list(dict.fromkeys(row["noise"] for row in found)) == ["2%", "10%"]


def test_the_table_shows_the_gain_and_the_p_value_of_all_but_the_best():
    found = cells(summary(rows()))
    assert [row["gain"] for row in found] == ["", "+10.17", "+8.83"]
    assert [row["p"] for row in found] == ["0.250", "", "0.500"]


@pytest.mark.parametrize("width", ["40", "80", "100"])
def test_the_table_takes_100_columns_and_no_number_is_cut(capsys, monkeypatch, width):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("TERM", "dumb")
    long = "unet2d_fine_tuned_from_released_weights"
    psnr = {"noisy": (-20.0, -21.0, -122.0), long: (130.0, 133.0, 130.5), "tv": PSNR["tv"]}
    spread = [
        Row(row.method, row.case, row.level, row.scores | {"ssim": 0.5, "bias_hu": -12.0})
        for row in rows(psnr)
    ]
    Terminal().table("title", *table(summary(spread), "HU"))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "…" not in out
    for shown in ("-55.33 ± 58.60", "+185.50", "-12.00", "0.250", "0.5000"):
        assert shown in out
    # The name is folded, not cut.
    names = [line[: out.splitlines()[3].index("noise")].strip() for line in out.splitlines()]
    assert long in "".join(names)


# -- The files -------------------------------------------------------------------------------------


def test_every_file_that_is_named_is_there(written):
    folder, paths = written
    assert all(path.stat().st_size > 100 for path in paths)
    assert {path.name for path in paths} == {
        "scores.csv", "report.json", "report.md", "slices-2pc.png", "slices-10pc.png",
        "closeup-2pc.png", "closeup-10pc.png", "cases.png",
        "levels.png", "noise_power.png", "noise_power.csv", "report.html",
    }  # fmt: skip
    assert sorted(folder.iterdir()) == sorted(paths)


def test_one_level_has_no_figure_against_noise_and_none_is_named(tmp_path):
    paths = write(tmp_path, ABOUT, rows(), [])
    assert tmp_path / "cases.png" in paths
    assert not (tmp_path / "levels.png").exists()
    assert "levels.png" not in (tmp_path / "report.md").read_text()


def test_the_csv_holds_every_score_to_the_last_digit(tmp_path):
    third = {"unet": (100 / 3, 1e-17, 30.0)}
    write(tmp_path, ABOUT, rows(third, sigmas=(0.1,)), [])
    with open(tmp_path / "scores.csv", newline="") as file:
        found = list(csv.DictReader(file))
    for row, expected in zip(found, rows(third, sigmas=(0.1,)), strict=True):
        assert (row["method"], row["case"], row["level"]) == ("unet", expected.case, "10%")
        assert {name: float(row[name]) for name in SCORES} == expected.scores


def test_the_json_contains_the_comparison_the_summary_and_the_rows(written):
    content = json.loads((written[0] / "report.json").read_text())
    assert content["protocol"] == "volumes"
    assert content["cases"]["case_1"] == "cd"
    expected = rows(sigmas=(0.02, 0.1))
    assert [row["scores"] for row in content["rows"]] == [row.scores for row in expected]
    assert content["summary"][1]["method"] == "unet"
    assert content["summary"][1]["psnr_db"]["mean"] == pytest.approx(31.1666667 - 0.2)


def tables(folder):
    """The tables of report.md: their columns and rows, as text."""
    found, block = [], []
    for line in [*(folder / "report.md").read_text().splitlines(), ""]:
        if line.startswith("|"):
            block.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif block:
            found.append((block[0], block[2:]))
            block = []
    return found


def test_the_markdown_holds_a_line_for_every_method_and_level(written):
    scores, windows, residuals, settings, fidelity = tables(written[0])
    both = [[name, noise] for noise in ("2%", "10%") for name in PSNR]
    assert [row[:2] for row in scores[1]] == [row[:2] for row in windows[1]] == both
    assert [row[:2] for row in residuals[1]] == [row for row in both if row[0] != "noisy"]
    assert settings[1][1] == ["tv", "2%", "`TotalVariation(weight=0.25)`"]
    assert [row[:2] for row in fidelity[1]] == both
    assert fidelity[0][2:] == [
        "air (HU)", "lung (HU)", "fat (HU)", "soft tissue (HU)", "bone (HU)", "cross 130 HU (%)",
        "cross -950 HU (%)",
    ]  # fmt: skip
    for columns, lines in (scores, windows, residuals, settings, fidelity):
        assert {len(line) for line in lines} == {len(columns)}


def test_the_scores_of_the_markdown_have_deviations_and_the_gain_its_interval(written):
    columns, lines = tables(written[0])[0]
    row = dict(zip(columns, lines[1], strict=True))
    assert row["PSNR (dB)"] == "30.97 ± 1.61"
    assert row["RMSE (HU)"] == "31.0 ± 1.6"
    assert row["gain (dB) [95 % interval]"] == "+10.17 [+8.50, +12.00]"


def test_the_display_windows_of_the_markdown_are_those_of_radiologists(written):
    columns, lines = tables(written[0])[1]
    assert columns[2:] == [
        "lung [-1350, 150] HU", "soft tissue [-160, 240] HU", "bone [-450, 1050] HU",
        "RMSE of soft tissue (HU)",
    ]  # fmt: skip
    assert lines[1][2:] == [*3 * ["30.97 ± 1.61"], "31.0 ± 1.6"]


def test_a_reader_of_the_markdown_needs_no_other_file(written):
    text = (written[0] / "report.md").read_text()
    for told in (
        "3 (test): case_0, case_1, case_2", "all slices of the whole volumes", "seed 77",
        "2%: white, 28 HU; 10%: white, 140 HU", "[-1000, 400] HU, 1400 wide", "Gaussian 11 x 11",
        "case_8, case_9", "radius 3, of SliceTV()", "sign-flip permutation",
        "3 cases allow no p below 0.25", "No method is worse than the untouched scan.",
    ):  # fmt: skip
        assert told in text
    for number in range(1, 6):
        assert f"**Table {number}.**" in text


def test_a_tissue_that_no_case_has_has_no_shift(tmp_path):
    found = rows()
    for row in found:
        row.scores["shift_lung_hu"] = math.nan
    write(tmp_path, ABOUT, found, [])
    columns, lines = tables(tmp_path)[-1]
    assert {line[columns.index("lung (HU)")] for line in lines} == {"none"}


def test_the_spectra_stand_in_csv_json_and_a_figure(written):
    with open(written[0] / "noise_power.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 2 * 3 * 3 * 3  # levels, methods, cases, frequencies
    assert [float(row["frequency_per_mm"]) for row in found[:3]] == [0.1, 0.2, 0.3]
    assert [float(row["removed_hu2_mm2"]) for row in found[:3]] == [60, 60, 65]
    content = json.loads((written[0] / "report.json").read_text())
    assert content["rows"][0]["noise"]["added_hu2_mm2"] == [90, 80, 70]
    assert "](noise_power.png)" in (written[0] / "report.md").read_text()


def test_without_spectra_there_is_no_figure_of_them(tmp_path):
    bare = [Row(row.method, row.case, row.level, row.scores) for row in rows()]
    paths = write(tmp_path, ABOUT, bare, [])
    assert not [path for path in paths if path.stem == "noise_power"]
    assert "noise_power" not in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"slices": 5}, "Scored: 5 slices about the middle of each volume"),
        ({"protocol": "reference"}, "the first slice of a central crop of 32 x 256 x 256"),
        ({"tuned_on": []}, "Classical methods were not tuned"),
        ({"tuning": "scored"}, "on the scored cases, with the clean image known"),
    ],
    ids=["slices", "reference", "nothing to tune", "tuned on scored"],
)
def test_the_markdown_names_scored_slices_and_tuning_cases(tmp_path, change, told):
    write(tmp_path, ABOUT | change, rows(), [])
    assert told in (tmp_path / "report.md").read_text()


def test_the_markdown_shows_every_figure_that_was_drawn(written):
    text = (written[0] / "report.md").read_text()
    shown = [line.split("](")[1][:-1] for line in text.splitlines() if line.startswith("![")]
    drawn = [path.name for path in written[1] if path.suffix == ".png"]
    assert shown == [name for name in drawn if not name.startswith("closeup-")]  # for cards


def test_a_bar_in_a_name_does_not_break_the_markdown(tmp_path):
    write(tmp_path, ABOUT, rows({"a|b": PSNR["unet"]}), [])
    assert tables(tmp_path)[0][1][0][0] == r"a\|b"


def test_the_json_is_json_even_where_a_score_is_not_finite(tmp_path, monkeypatch):
    for name in ("boxes", "levels"):
        monkeypatch.setattr(
            f"engine.report.figures.{name}", lambda path, *rest: path.write_bytes(b"")
        )
    found = rows({"broken": (math.nan, 30.0, 31.0)})

    def refuse(word):
        raise AssertionError(word)

    write(tmp_path, ABOUT, found, [])
    content = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert content["rows"][0]["scores"]["psnr_db"] is None


def test_the_same_result_is_the_same_bytes(written):
    folder, paths = written
    before = {path: path.read_bytes() for path in paths}
    write(folder, ABOUT, rows(sigmas=(0.02, 0.1)), pictures((0.02, 0.1)))
    assert {path: path.read_bytes() for path in paths} == before


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(CannotWrite):
        write(tmp_path / "report", ABOUT, rows(), [])
    assert (tmp_path / "report").read_text() == "mine"


def test_the_published_table_stands_beside_scores_of_the_same_protocol_alone(written, tmp_path):
    assert "Published" not in (written[0] / "report.md").read_text()
    write(tmp_path, ABOUT | {"protocol": "reference"}, rows(), pictures())
    assert "| 3D U-Net | 2.87 | 0.8585 |" in (tmp_path / "report.md").read_text()


def test_an_oracle_is_never_the_best():
    entries = summary(rows(PSNR | {"prior@clean": (90.0, 90.0, 90.0)}), oracles=["prior@clean"])
    found = {entry["method"]: entry["p_to_best"] for entry in entries}
    assert found["unet"] is None
    assert found["prior@clean"] is not None
