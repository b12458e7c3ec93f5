import json
import shutil
from dataclasses import asdict

import pytest

from engine.characterization.quantities import Quantity
from engine.checkpoints.checkpoint import fingerprint
from engine.diagnostics.card import make_card, picture
from engine.diagnostics.card_text import plain, read_card, renewed, scores, write_card
from engine.errors import BadUsage, Mismatch
from engine.runs.run import Run, named_run
from volumes.storage.digest import sha256

SHIFTS = {f"shift_{tissue}_hu": -0.5 for tissue in ("air", "lung", "fat", "soft_tissue", "bone")}


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run, which tests may write to."""
    return Run(shutil.copytree(trained, tmp_path / "trained"))


def networks(run):
    return {"trained": [{"run": "trained", "sha256": fingerprint(run.checkpoint("best"))}]}


@pytest.fixture
def report(run, tmp_path):
    """A report on a thin and a thick case, at added and at recorded noise."""

    def write(name="report", **changes):
        psnr = {("noisy", "a"): 20, ("noisy", "b"): 30, ("trained", "a"): 34, ("trained", "b"): 35}
        content = {
            "split": "test", "cases": {"a": "1", "b": "2"}, "slices": 4, "tuned_on": [],
            "protocol": "volumes",
            "spacing_mm": {"a": [0.8, 1, 1], "b": [5.0, 1, 1]},
            "levels": {"5%": "white", "quarter": "recorded"}, "recorded": ["quarter"],
            "networks": networks(run) | {"other": [{"sha256": "0"}]},
            "rows": [
                {"method": method, "case": case, "level": level, "scores":
                 {"psnr_db": value, "rmse_soft_tissue_hu": None if case == "b" else 9, **SHIFTS}}
                for (method, case), value in [*psnr.items(), (("other", "a"), 99)]
                for level in ("5%", "quarter")
            ],
        }  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(content | changes))
        return tmp_path / name

    return write


@pytest.fixture
def characterized(run, tmp_path):
    """A report of `engine characterize`: the network blurs, and doubles what is detected."""
    rows = []
    for method, noise, sharp in (("reconstruction", 40.0, 0.6), ("trained", 10.0, 0.3)):
        for name, of, value in (
            ("noise_hu", "", noise), ("noise_ratio", "", noise / 40), ("nps_mean_ratio", "", 0.5),
            ("ttf50_per_mm", "rod", sharp), ("ttf50_per_mm", "faint", None), ("psnr_db", "", 30.0),
            ("hu_bias", "rod", -2.0), ("hu_bias", "faint", 1.0), ("auc", "A", 0.8),
            ("auc", "B", 0.6), ("auc", "lesion", 0.1), ("d_prime_npw", "A", None),
            ("d_prime_npw", "B", 1.0),
        ):  # fmt: skip
            rows.append(asdict(Quantity(method, 1e5, name, of, value, 0.0, 0.0)))
    content = {
        "phantom": "catphan", "realisations": 8, "pixel_mm": 0.7, "quantities": rows,
        "networks": networks(run), "remarks": ["trained at 1e5 raises.", "tv at 1e5 lowers."],
    }  # fmt: skip
    folder = tmp_path / "characterized"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(content))
    return folder


def tables(card):
    return {table["kind"]: table for table in card["tables"]}


def test_scores_are_means_over_all_over_thin_and_over_thick_slices(run, report):
    found = tables(make_card(run, "best", [report()]))
    assert found["psnr"]["columns"] == ["method", "5%"]
    assert found["psnr"]["rows"] == [["noisy", 25], ["trained", 34.5]]
    assert found["psnr by distance"]["rows"] == [
        ["noisy", "up to 2.5 mm", 20], ["trained", "up to 2.5 mm", 34],
        ["noisy", "above 2.5 mm", 30], ["trained", "above 2.5 mm", 35],
    ]  # fmt: skip


def test_the_mean_over_poses_stands_beside_the_network(run, report):
    rows = [
        {"method": method, "case": "a", "level": "5%", "scores": {"psnr_db": psnr, **SHIFTS}}
        for method, psnr in (("noisy", 20), ("trained", 34), ("trained+poses", 35), ("other", 99))
    ]
    both = networks(run)
    both |= {"trained+poses": both["trained"], "other": [{"sha256": "0"}]}
    card = make_card(run, "best", [report(rows=rows, networks=both, recorded=[])])
    found = [row[:2] for row in tables(card)["psnr"]["rows"]]
    assert found == [["noisy", 20], ["trained", 34], ["trained+poses", 35]]


def test_recorded_noise_is_scored_by_the_rmse_of_soft_tissue_of_each_case(run, report):
    table = tables(make_card(run, "best", [report()]))["rmse"]
    assert table["columns"] == ["method", "a", "b", "mean"]
    assert table["rows"] == [["noisy", 9, None, 9], ["trained", 9, None, 9]]


def test_bias_is_told_by_tissue_at_every_level(run, report):
    table = tables(make_card(run, "best", [report()]))["hu bias"]
    assert [row[:2] for row in table["rows"]] == [
        ["noisy", "5%"], ["trained", "5%"], ["noisy", "quarter"], ["trained", "quarter"],
    ]  # fmt: skip
    assert table["rows"][0][2:] == [-0.5] * 5


def test_characteristics_are_told_by_method_and_dose(run, characterized):
    card = make_card(run, "best", [characterized])
    (before, after) = tables(card)["characteristics"]["rows"]
    assert before == ["reconstruction", "100,000", 40, 1, 0.5, 1, -2, 30, 0.7]
    assert after == ["trained", "100,000", 10, 0.25, 0.5, 0.5, -2, 30, 0.7]
    assert card["remarks"] == ["trained at 1e5 raises."]


def test_a_card_names_the_weights_and_the_cases_that_they_learned_from(run, report):
    card = make_card(run, "best", [report()])
    assert card["sha256"] == fingerprint(run.checkpoint("best"))
    assert card["cases"]["training"] == sorted(run.record().cases["training"])
    assert card["network"].startswith("UNet3D(")
    assert (card["licence"], card["fails"]) == ("", [])


def test_the_words_of_a_recipe_that_ships_are_those_of_its_docstring():
    card = make_card(named_run("ct_denoiser"), "best", [])
    assert card["about"].startswith("CT denoiser: ")
    assert card["licence"].startswith("Apache-2.0")
    assert card["fails"][1].startswith("Metal: ")
    assert card["parameters"] == 224_544


def test_a_report_on_other_weights_is_refused_by_its_hash(run, report, engine):
    other = report(networks={"trained": [{"run": "trained", "sha256": "f" * 64}]})
    with pytest.raises(Mismatch, match=r"report: measures other weights \(trained ffffffffffff\)"):
        make_card(run, "best", [other])
    code, out, err = engine("card", run.folder, other)
    assert (code, out, err.count("\n")) == (5, "", 1)
    assert not (run.folder / "card.json").exists()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{}", "another version"),
        ("[", "damaged report"),
        ("[]", "damaged report"),
        ('{"networks": 1}', "another version"),
    ],
)
def test_a_file_that_is_no_report_is_refused(run, tmp_path, text, cause):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(Mismatch, match=cause):
        make_card(run, "best", [tmp_path])
    with pytest.raises(Mismatch, match="has no report"):
        make_card(run, "best", [tmp_path / "none"])


def test_a_real_report_makes_a_card_that_info_shows(run, dataset, engine, tmp_path, monkeypatch):
    for name in ("slices", "closeups", "boxes", "levels", "noise_power"):
        monkeypatch.setattr(
            f"engine.report.figures.{name}", lambda path, *rest: path.write_bytes(b"")
        )
    words = ("--data", dataset, "--slices", "1", "-o", tmp_path / "true", "-q")
    assert engine("evaluate", "noisy", run.folder, *words)[0] == 0
    code, out, _ = engine("card", run.folder, tmp_path / "true", "--picture", tmp_path / "true")
    assert code == 0
    assert "Slices: the middle 1 of 1 test case (case_0000" in out
    psnr = {
        row["method"]: row["scores"]["psnr_db"]
        for row in json.loads((tmp_path / "true" / "report.json").read_text())["rows"]
    }
    assert f"| trained | {psnr['trained']:.2f} |" in out
    assert f"{psnr['trained']:.2f}" in engine("info", run.folder)[1]
    card = json.loads(engine("info", run.folder, "--json")[1])["card"]
    assert card == json.loads((run.folder / "card.json").read_text())
    assert card["picture_sha256"] == sha256(tmp_path / "true" / "closeup-10pc.png")
    assert card["picture_sha256"] == sha256(run.folder / "card.png")


def test_a_card_tells_which_slices_the_reference_protocol_scores(run, report):
    title = tables(make_card(run, "best", [report(protocol="reference")]))["psnr"]["title"]
    assert "The first slice of a central crop, of 2 test cases (a, b)" in title


def test_a_card_without_a_picture_removes_that_of_the_card_before(run, report, tmp_path):
    (tmp_path / "drawn.png").write_bytes(b"drawn")
    card = make_card(run, "best", [report()])
    assert len(write_card(run, card, tmp_path / "drawn.png")) == 2
    assert (run.folder / "card.png").read_bytes() == b"drawn"
    assert write_card(run, card) == [run.folder / "card.json"]
    assert not (run.folder / "card.png").exists()


def test_the_picture_is_of_the_middle_level_of_the_first_report_that_has_one(run, report):
    levels = {"2%": "white", "5%": "white", "10%": "white"}
    first, second = report(), report("second", levels=levels, recorded=[])
    for name in ("closeup-2pc.png", "closeup-5pc.png", "closeup-10pc.png"):
        (second / name).write_bytes(name.encode())
    assert picture([first]) is None
    assert picture([first, second]) == second / "closeup-5pc.png"
    card = make_card(run, "best", [first], picture([first, second]))
    assert card["picture_sha256"] == sha256(second / "closeup-5pc.png")
    assert make_card(run, "best", [second])["picture_sha256"] is None


def test_info_warns_of_a_card_of_weights_that_the_run_does_not_hold(run, report, engine):
    card = make_card(run, "best", [report()])
    write_card(run, card | {"sha256": "0" * 64})
    code, out, _ = engine("info", run.folder)
    assert code == 0
    assert "is of weights that the run does not hold" in out
    assert "PSNR in dB. " not in out


@pytest.mark.parametrize("text", ["", "{}", '{"tables": 3}', '[{"name": "trained"}]'])
def test_a_damaged_card_is_refused(run, text):
    (run.folder / "card.json").write_text(text)
    with pytest.raises(Mismatch, match="is damaged"):
        read_card(run)


def test_the_terminal_shows_short_tables_and_where_a_network_fails(run, report, characterized):
    card = make_card(run, "best", [report(), characterized]) | {"fails": ["Metal: \x1b[31m"]}
    text = plain(card)
    assert "up to 2.5 mm" not in text
    assert "- Metal:  [31m" in text  # without the escape
    assert "PSNR is no diagnosis" in text


def test_a_document_is_renewed_between_its_marks_alone(run, report, engine, tmp_path):
    write_card(run, make_card(run, "best", [report()]))
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- card of {run.folder} -->\nstale\n<!-- end -->\nafter\n")
    assert engine("card", run.folder, "--renew", page)[0] == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "stale" not in text
    assert "| trained | 34.50 |" in text
    assert renewed(text) == text


def test_a_network_with_options_stands_below_it_in_the_short_table(run, report):
    card = make_card(run, "best", [report()])
    table = next(table for table in card["tables"] if table["kind"] == "psnr")
    table["rows"].insert(0, ["trained+poses", 35.0])
    rows = [line.split(" |")[0] for line in scores([card]).splitlines() if line.startswith("| ")]
    assert rows[1:] == ["| noisy", "| trained", "| trained+poses"]


def test_networks_of_the_same_reports_share_a_short_table(run, report):
    card = make_card(run, "best", [report()])
    other = json.loads(json.dumps(card).replace("trained", "better"))
    other["tables"][0]["rows"][1][1] = 36.0
    text = scores([card, other])
    assert text.index("| noisy | 25.00 | 9.0 |") < text.index("| trained | 34.50 | 9.0 |")
    assert "| better | 36.00 | 9.0 |" in text
    other["tables"][0]["title"] += " Other cases."
    with pytest.raises(BadUsage, match="cards of better and trained: differ in cases"):
        scores([card, other])


def test_the_short_table_is_of_the_first_report_on_added_noise(run, report):
    rows = [{"method": "trained", "case": "a", "level": "5%", "scores": {"psnr_db": 9, **SHIFTS}}]
    held_out = report("test", cases={"a": "1"}, levels={"5%": "white"}, recorded=[], rows=rows)
    card = make_card(run, "best", [report(), held_out])
    assert [table["kind"] for table in card["tables"]].count("psnr") == 2
    assert scores([card]) == scores([make_card(run, "best", [report("again")])])


def test_a_run_without_a_card_names_what_is_needed(run, engine):
    code, out, err = engine("card", run.folder)
    assert (code, out) == (2, "")
    assert "has no card. Name the reports" in err
