import csv
import io
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest

import engine as api
from engine.checkpoints.checkpoint import fingerprint
from engine.comparison import compare
from engine.comparison.classical import METHODS, tuned
from engine.errors import BadUsage
from engine.recipe.shipped_networks import folder_of
from engine.runs.run import Run
from tests.engine.tiny import scan_file, tiny, untrained, voxels
from tests.engine.undrawn import leave_out_pictures
from volumes import Gaussian, Split
from volumes.dataset import find_cases
from volumes.padding import padding

REFUSAL = re.compile(r"engine: error: (?P<path>[^:]+): (?P<cause>.+)[.] (?P<remedy>.+)[.]\n")
LEVELS = "gaussian:0.02,0.05"


@pytest.fixture(autouse=True)
def _tensorflow(cpu):
    """SSIM and the networks are TensorFlow's."""


@pytest.fixture
def evaluate(engine, dataset, tmp_path):
    """Evaluates methods, by default on the tiny dataset's test case."""

    def call(*words, data=dataset, output=tmp_path / "report"):
        return engine("evaluate", *words, "--data", data, "-o", output, "-q")

    return call


@pytest.fixture
def undrawn(monkeypatch):
    """Skips the pictures, which take most of the time."""
    leave_out_pictures(monkeypatch)


@pytest.fixture(scope="module")
def compared(cpu, trained, dataset, tmp_path_factory):
    """A network, no denoising and total variation: files and output of two equal commands.

    The second one draws no pictures.
    """
    from engine.cli.main import run

    found = []
    for name in ("one", "same"):
        folder = tmp_path_factory.mktemp("compared") / name
        words = ["evaluate", trained, "noisy", "tv", "--data", dataset, "-o", folder]
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(io.StringIO()) as out,
            redirect_stderr(io.StringIO()) as err,
        ):
            if found:
                leave_out_pictures(patch)
            assert run([str(word) for word in (*words, "--noise", LEVELS)]) == 0
        found.append((folder, out.getvalue(), err.getvalue()))
    return found


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Nine scans of noise: enough for the default split."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(9):
        hu = np.random.default_rng(i).integers(-900, 300, (2, 16, 16), np.int16)
        scan_file(folder / f"scan{i}.nii", hu)
    return folder


def assert_refused(result, code, path=None):
    assert result[:2] == (code, "")
    told = REFUSAL.fullmatch(result[2])
    assert told, result[2]
    if path is not None:
        assert told["path"] == str(path)
    return told


def rows(folder):
    with open(folder / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def side(run, name):
    """The cases of a side of a run's split."""
    return sorted(Run(run).record().content["cases"][name])


def with_cases(run, folder, **sides):
    """A copy of a run that declares other cases."""
    shutil.copytree(run, folder)
    note = json.loads((folder / "run.json").read_text())
    note["cases"] |= sides
    (folder / "run.json").write_text(json.dumps(note))
    return folder


# -- One command -----------------------------------------------------------------------------------


def test_the_same_command_writes_the_same_bytes(compared):
    (one, *_), (same, *_) = compared
    for name in ("scores.csv", "report.json", "report.md", "noise_power.csv"):
        assert (one / name).read_bytes() == (same / name).read_bytes()


def test_every_method_case_and_level_has_a_row(compared, trained):
    found = [(row["level"], row["case"], row["method"]) for row in rows(compared[0][0])]
    (case,) = side(trained, "test")
    methods = ("trained", "noisy", "tv")
    assert found == [(level, case, method) for level in ("2%", "5%") for method in methods]


def test_the_noisy_row_equals_a_calculation_by_hand(compared, dataset):
    for row in rows(compared[0][0]):
        if row["method"] == "noisy":
            hu = voxels(dataset / row["case"] / "imaging.nii.gz")
            clean = (hu.astype(np.float32) + 1000) / 1400
            sigma = float(row["level"].rstrip("%")) / 100
            noisy = Gaussian(0.1).degrade(clean, sigma, 0, row["case"])
            noisy = np.where(padding(hu), clean, noisy)
            mse = np.mean((np.clip(noisy, 0, 1) - np.clip(clean, 0, 1)) ** 2)
            assert float(row["psnr_db"]) == pytest.approx(-10 * np.log10(mse), abs=1e-3)


def test_the_report_holds_every_method(compared):
    text = (compared[0][0] / "report.md").read_text()
    for method in ("trained", "noisy", "tv"):
        # Scores, display windows, settings and HU fidelity; the untouched scan has no residual.
        tables = 4 if method == "noisy" else 5
        assert len(re.findall(rf"^\| {method} \|", text, re.MULTILINE)) == 2 * tables


def test_the_report_names_scored_and_tuning_cases(compared, trained):
    content = json.loads((compared[0][0] / "report.json").read_text())
    assert content["cases"] == Run(trained).record().content["cases"]["test"]
    assert content["tuned_on"] == side(trained, "validation")
    assert (content["split"], content["protocol"], content["slices"]) == ("test", "volumes", "all")
    assert content["data_range"] == {"low_hu": -1000, "high_hu": 400, "clip": True}


def test_the_report_contains_the_noise_seed_and_the_prior(compared):
    content = json.loads((compared[0][0] / "report.json").read_text())
    assert content["noise_seed"] == 0
    assert (content["prior"]["radius"], content["prior"]["of"]) == (4, "Noisy()")


def test_it_is_printed_which_method_is_worse_than_its_input(compared):
    (told,) = re.findall(r"^Worse than the untouched scan: (.+)\.$", compared[0][1], re.MULTILINE)
    # A network of 4 steps, of course; total variation was tuned.
    assert re.fullmatch(r"trained at 2% \(-.+ dB\), trained at 5% \(-.+ dB\)", told)
    assert told in (compared[0][0] / "report.md").read_text()


def test_the_settings_that_were_chosen_are_printed(compared):
    out = compared[0][1]
    for level in ("2%", "5%"):
        (told,) = re.findall(rf"^{level}: tv: (.+)$", out, re.MULTILINE)
        assert told in map(repr, METHODS["tv"]().candidates())
    assert "2%: trained: UNet3D(width=2, levels=2) at step 4\n" in out


def test_the_table_and_the_paths_are_printed(compared):
    folder, out, _ = compared[0]
    assert "window [-1000, 400] HU is the data range" in " ".join(out.split())
    for method in ("trained", "noisy", "tv"):
        assert len(re.findall(rf"\W{method}\s.+±", out)) == 2
    paths = [line for line in out.splitlines() if line.startswith(str(folder))]
    assert sorted(paths) == sorted(str(path) for path in folder.iterdir())


def test_progress_is_reported_on_stderr(compared, trained):
    err = compared[0][2]
    (case,) = side(trained, "test")
    assert f"trained, {case}, 5%\n" in err
    assert "tuning tv, 2%\n" in err


@pytest.mark.usefixtures("undrawn")
def test_a_quiet_comparison_prints_nothing_on_stderr(evaluate, trained):
    code, out, err = evaluate(trained, "noisy")
    assert (code, err) == (0, "")
    assert "10%: noisy: Noisy()\n" in out


@pytest.mark.usefixtures("undrawn")
def test_a_level_named_twice_is_one_level(evaluate, trained, tmp_path):
    assert evaluate(trained, "noisy", "--noise", "gaussian:0.1,0.10")[0] == 0
    assert [row["level"] for row in rows(tmp_path / "report")] == ["10%", "10%"]


@pytest.mark.usefixtures("undrawn")
def test_coloured_noise_is_scored_as_degrade_writes_it(
    evaluate, engine, trained, dataset, tmp_path
):
    (case,) = side(trained, "test")
    kind, words = "coloured:0.05/0.6/0.25", ("--noise", "coloured:0.05/0.6/0.25")
    assert evaluate("noisy", *words, "--split", "all")[0] == 0
    (found,) = (row for row in rows(tmp_path / "report") if row["case"] == case)
    clean = dataset / case / "imaging.nii.gz"
    code, *_ = engine("degrade", clean, "--as", kind, "-o", tmp_path / f"{case}.nii.gz", "-q")
    assert code == 0
    one, other = (
        np.clip((voxels(path) + 1000) / 1400, 0, 1) for path in (clean, tmp_path / f"{case}.nii.gz")
    )
    rmse_hu = 1400 * np.sqrt(np.mean((one - other) ** 2))
    assert float(found["rmse_hu"]) == pytest.approx(rmse_hu, abs=0.5)  # files hold whole HU


def test_slices_and_protocol_are_in_the_title_of_the_table(evaluate, trained):
    what = "test, every voxel of the 4 middle slices, padding as air; "
    assert what in evaluate(trained, "--slices", "4")[1]
    told = evaluate(trained, "--protocol", "reference", "--overwrite")[1]
    assert "test, slice 0 of a central crop of 32 x 256 x 256; " in told


@pytest.mark.usefixtures("undrawn")
def test_the_reference_scores_one_slice(evaluate, trained, dataset, tmp_path):
    assert evaluate(trained, "noisy", "--protocol", "reference")[0] == 0
    row = next(row for row in rows(tmp_path / "report") if row["method"] == "noisy")
    hu = voxels(dataset / row["case"] / "imaging.nii.gz")[:1]  # smaller than the crop
    clean = np.clip((hu.astype(np.float32) + 1000) / 1400, 0, 1)
    noisy = Gaussian(0.1).degrade(clean, 0.1, 0, row["case"])
    mse = np.mean((np.clip(noisy, 0, 1) - clean) ** 2)
    assert float(row["psnr_db"]) == pytest.approx(-10 * np.log10(mse), abs=1e-3)


@pytest.mark.usefixtures("undrawn")
def test_a_checkpoint_can_be_chosen(evaluate, trained):
    assert "at step 2\n" in evaluate(trained, "--checkpoint", "2", "--slices", "1")[1]


@pytest.mark.usefixtures("undrawn")
def test_the_data_folder_may_stand_in_the_environment(engine, many, tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINE_DATA", str(many))
    monkeypatch.chdir(tmp_path)
    assert engine("evaluate", "noisy")[0] == 0
    assert len(rows(tmp_path / "report")) == 2


# -- Cases -----------------------------------------------------------------------------------------


@pytest.fixture
def known(monkeypatch):
    """What classical methods are tuned on."""
    found = []

    def watched(method, pairs):
        found.extend(pairs)
        return tuned(method, pairs)

    monkeypatch.setattr(compare, "tuned", watched)
    return found


@pytest.mark.usefixtures("undrawn")
def test_classical_methods_are_tuned_on_validation_cases_and_never_on_scored_ones(
    evaluate, trained, dataset, known
):
    assert evaluate(trained, "tv")[0] == 0
    (validation,), (test,) = side(trained, "validation"), side(trained, "test")
    clean = {
        case: np.clip((voxels(dataset / case / "imaging.nii.gz") + 1000) / 1400, 0, 1)[2:10]
        for case in (validation, test)
    }
    assert len(known) == 1
    np.testing.assert_allclose(known[0][0], clean[validation], atol=1e-6)
    assert np.abs(known[0][0] - clean[test]).max() > 0.1


@pytest.mark.usefixtures("undrawn")
def test_classical_methods_are_tuned_on_the_scored_cases_if_asked(
    evaluate, trained, known, tmp_path
):
    assert evaluate(trained, "tv", "--tune-on-scored")[0] == 0
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    assert content["tuned_on"] == side(trained, "test") == list(content["cases"])
    assert content["tuning"] == "scored"
    assert len(known) == 1


def test_strengths_of_a_network_are_scored_as_denoise_applies_them(
    evaluate, trained, dataset, tmp_path, undrawn
):
    words = ["noisy", trained, f"{trained}+strength=0.50", f"{trained}+poses+strength=0"]
    assert evaluate(*words, "--no-tuning", "--noise", "gaussian:0.05")[0] == 0
    with (tmp_path / "report" / "scores.csv").open() as lines:
        psnr = {row["method"]: float(row["psnr_db"]) for row in csv.DictReader(lines)}
    half, none = psnr["trained+strength=0.5"], psnr["trained+poses+strength=0"]
    assert none == pytest.approx(psnr["noisy"], abs=1e-3)
    assert min(psnr["trained"], none) < half  # an untrained network does harm: half of it does less
    assert half != psnr["trained"]
    settings = json.loads((tmp_path / "report" / "report.json").read_text())["settings"]["5%"]
    assert settings["trained+strength=0.5"].endswith(", strength 0.5")
    assert settings["trained+poses+strength=0"].endswith(
        ", mean of the poses of slices, strength 0"
    )


@pytest.mark.parametrize(("option", "told"), [
    ("strength=2", "--strength: must lie between 0 and 1.5, not 2"),
    ("strength=much", "has no strength 'strength=much'. Write such as +strength=0.8."),
    ("speed", "is not a method"),
])  # fmt: skip
def test_an_option_that_a_network_does_not_take_is_refused(evaluate, trained, option, told):
    code, _, err = evaluate("noisy", f"{trained}+{option}")
    assert code == 2
    assert told in err


def test_a_run_may_have_the_name_of_an_option(evaluate, trained, tmp_path, undrawn):
    run = shutil.copytree(trained, tmp_path / "mine+poses")
    assert evaluate(run, f"{run}+poses")[0] == 0
    text = (tmp_path / "report" / "scores.csv").read_text()
    assert "mine+poses," in text
    assert "mine+poses+poses," in text


@pytest.mark.parametrize("slices", [0, -3])
def test_no_slice_cannot_be_scored(dataset, slices):
    with pytest.raises(BadUsage, match="--slices: must be at least 1"):
        api.evaluate(["noisy"], data=dataset, split="all", slices=slices, quiet=True)


def test_the_order_of_networks_with_and_without_clipping_changes_no_score(
    evaluate, cpu, dataset, tmp_path, undrawn
):
    runs = [
        untrained(tmp_path / name, tiny("unet3d", f"window.clip={clip}"), cpu).folder
        for name, clip in (("clipped", "true"), ("open", "false"))
    ]
    found = []
    for i, order in enumerate((runs, runs[::-1])):
        place = tmp_path / f"report{i}"
        words = ("noisy", *order, "--split", "all", "--no-tuning")
        assert evaluate(*words, output=place)[0] == 0
        with (place / "scores.csv").open() as lines:
            rows = sorted(csv.DictReader(lines), key=lambda row: (row["case"], row["method"]))
        found.append(rows)
    assert found[0] == found[1]


def test_no_tuning_contradicts_tuning_on_the_scored_cases(evaluate, trained):
    code, *said = evaluate(trained, "tv", "--tune-on-scored", "--no-tuning")
    assert code == 2
    assert "--tune-on-scored: contradicts --no-tuning" in "".join(map(str, said))


@pytest.mark.usefixtures("undrawn")
def test_methods_without_settings_read_no_validation_case(evaluate, trained, tmp_path):
    assert evaluate(trained, "noisy", "prior")[0] == 0
    assert json.loads((tmp_path / "report" / "report.json").read_text())["tuned_on"] == []


@pytest.mark.usefixtures("undrawn")
def test_the_validation_cases_of_the_run_can_be_scored(evaluate, trained, tmp_path):
    assert evaluate(trained, "--split", "validation")[0] == 0
    assert [row["case"] for row in rows(tmp_path / "report")] == side(trained, "validation")


def test_cases_seen_in_training_are_refused(evaluate, trained, dataset, tmp_path):
    told = assert_refused(evaluate("noisy", trained, "--split", "all"), 5, dataset)
    assert told["cause"] == f"trained was trained on {side(trained, 'training')[0]}"
    assert "--allow-seen" in told["remedy"]
    assert not (tmp_path / "report").exists()


@pytest.mark.usefixtures("undrawn")
def test_cases_seen_in_training_are_scored_where_that_is_asked_for(evaluate, trained, tmp_path):
    assert evaluate(trained, "--split", "all", "--allow-seen", "--slices", "1")[0] == 0
    assert len(rows(tmp_path / "report")) == 4


def test_a_training_case_under_another_name_is_refused(evaluate, trained, dataset, tmp_path):
    (tmp_path / "data").mkdir()
    seen = side(trained, "training")[1]
    shutil.copy(dataset / seen / "imaging.nii.gz", tmp_path / "data" / "innocent.nii.gz")
    result = evaluate(trained, "--split", "all", data=tmp_path / "data")
    told = assert_refused(result, 5, tmp_path / "data")
    assert told["cause"] == "trained was trained on innocent"


@pytest.mark.usefixtures("undrawn")
def test_unseen_cases_of_other_data_are_scored(evaluate, trained, many, tmp_path):
    assert evaluate(trained, "--split", "all", data=many)[0] == 0
    assert len(rows(tmp_path / "report")) == 9


@pytest.mark.usefixtures("undrawn")
def test_networks_that_ship_are_scored_beside_a_run_on_cases_of_the_same_names(
    evaluate, trained, tmp_path
):
    assert {"case_00001"} <= set(Run(folder_of("ct_denoiser")).record().cases["training"])
    assert evaluate("ct_denoiser", "--split", "all", "--slices", "1")[0] == 0
    assert len(rows(tmp_path / "report")) == 4
    result = evaluate(trained, "ct_denoiser", "--overwrite", output=tmp_path / "both")
    assert result[0] == 0, result[2]
    assert {row["case"] for row in rows(tmp_path / "both")} == set(side(trained, "test"))


def test_imported_weights_are_not_scored_on_what_they_learned_from(
    engine, evaluate, trained, dataset, tmp_path
):
    assert engine("import", trained, "--run", tmp_path / "weights")[0] == 0
    told = assert_refused(evaluate(tmp_path / "weights", "--split", "all"), 5, dataset)
    assert told["cause"] == f"weights was trained on {side(trained, 'training')[0]}"


def test_a_run_that_trained_on_a_test_case_of_another_run_is_refused(evaluate, trained, tmp_path):
    about = Run(trained).record().content["cases"]
    other = with_cases(trained, tmp_path / "other", training=about["training"] | about["test"])
    told = assert_refused(evaluate(trained, other), 5)
    assert told["cause"] == f"other was trained on {side(trained, 'test')[0]}"


@pytest.mark.parametrize("split", ["test", "validation"])
def test_runs_that_were_split_differently_are_refused(evaluate, trained, tmp_path, split):
    about = Run(trained).record().content["cases"]
    other = with_cases(
        trained, tmp_path / "other", test=about["validation"], validation=about["test"]
    )
    told = assert_refused(evaluate(trained, other, "--split", split), 5)
    assert told["cause"] == f"trained and other have different splits: {split} differs"


def test_runs_whose_validation_differs_cannot_tune(evaluate, trained, tmp_path):
    about = Run(trained).record().content["cases"]
    other = with_cases(trained, tmp_path / "other", validation=about["training"])
    told = assert_refused(evaluate(trained, other, "tv"), 5)
    assert "validation differs" in told["cause"]


def test_data_that_lack_a_case_of_the_run_are_refused(evaluate, trained, many):
    told = assert_refused(evaluate(trained, data=many), 5, many)
    assert told["cause"] == f"does not hold {side(trained, 'test')[0]} of test"


def test_a_run_without_test_cases_is_refused(evaluate, trained, tmp_path):
    other = with_cases(trained, tmp_path / "other", test={})
    assert_refused(evaluate(other), 5)


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_declares_no_cases_takes_the_split_of_the_others(
    evaluate, trained, unet_run, tmp_path
):
    assert evaluate(unet_run, trained)[0] == 0
    assert {row["case"] for row in rows(tmp_path / "report")} == set(side(trained, "test"))


@pytest.mark.usefixtures("undrawn")
def test_without_a_run_the_cases_are_those_of_the_default_split(evaluate, many, tmp_path):
    sides = Split().assign(many, find_cases(many))
    assert evaluate("noisy", "tv", data=many)[0] == 0
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    assert list(content["cases"]) == [case.name for case in sides["test"]]
    assert content["tuned_on"] == [case.name for case in sides["validation"]]
    assert not set(content["cases"]) & set(content["tuned_on"])


def test_too_few_cases_for_the_default_split_are_refused(evaluate, dataset):
    assert_refused(evaluate("noisy"), 3, dataset)


@pytest.mark.usefixtures("undrawn")
def test_the_window_is_that_of_the_network_behind_a_prior(evaluate, cpu, tmp_path):
    recipe = tiny("unet2d", "window.low_hu=-200", "window.high_hu=300")
    narrow = untrained(tmp_path / "narrow", recipe, cpu).folder
    words = ("noisy", f"prior@{narrow}", "--split", "all", "--slices", "1")
    assert "window [-200, 300] HU is the data range" in " ".join(evaluate(*words)[1].split())


def test_methods_are_not_tuned_on_training_cases_of_their_prior(evaluate, cpu, many, tmp_path):
    flat = untrained(tmp_path / "flat", tiny("unet2d"), cpu).folder
    case = Split().assign(many, find_cases(many))["validation"][0].name
    note = json.loads((flat / "run.json").read_text()) | {"cases": {"training": {case: "0"}}}
    (flat / "run.json").write_text(json.dumps(note))
    told = assert_refused(evaluate(f"spade@{flat}", data=many), 5, many)
    assert told["cause"] == f"spade@flat would be tuned on {case}, which its prior was trained on"
    assert "--no-tuning" in told["remedy"]


@pytest.mark.usefixtures("undrawn")
def test_no_classical_method_is_given_the_oracle_of_a_network(evaluate, cpu, tmp_path):
    recipe = tiny("respr_unet3d", "prior=clean:0")
    oracle = untrained(tmp_path / "oracle", recipe, cpu).folder
    words = ("prior", "prior@clean:0", oracle, "--split", "all", "--slices", "1")
    code, out, err = evaluate(*words)
    assert code == 0
    found = {row["method"]: float(row["psnr_db"]) for row in rows(tmp_path / "report")}
    assert found["prior@clean:0"] == np.inf
    assert found["prior"] < 40
    assert "warning: prior@clean:0, oracle: given the clean image" in err
    assert (
        "oracle is given the clean image: an upper bound"
        in (tmp_path / "report" / "report.md").read_text()
    )
    assert "RuntimeWarning" not in out + err


@pytest.mark.usefixtures("undrawn")
def test_a_network_with_unknown_training_cases_gives_a_warning(evaluate, unet_run, trained):
    assert f"{unet_run}: does not list its training cases" in evaluate(unet_run, trained)[2]


@pytest.mark.usefixtures("undrawn")
def test_the_report_holds_the_fingerprints_of_the_networks(evaluate, trained, tmp_path):
    assert evaluate(trained, "noisy", "--slices", "1")[0] == 0
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    sha256 = fingerprint(Run(trained).checkpoint("best"))
    assert content["networks"] == {"trained": [{"run": "trained", "step": 4, "sha256": sha256}]}


def test_the_remedy_is_no_tuning_if_only_tuning_lacks_cases(evaluate, dataset):
    told = assert_refused(evaluate("tv", "--split", "all"), 3, dataset)
    assert told["remedy"] == "Add cases, or use --no-tuning"


def test_a_place_that_takes_no_report_is_refused_before_the_work(
    evaluate, trained, tmp_path, monkeypatch
):
    monkeypatch.setattr(compare, "compare", lambda *arguments: pytest.fail("worked in vain"))
    (tmp_path / "file").write_text("")
    assert_refused(evaluate(trained, output=tmp_path / "file"), 4, tmp_path / "file")


@pytest.mark.usefixtures("undrawn")
def test_all_cases_need_no_split_where_nothing_is_tuned(evaluate, tmp_path):
    assert evaluate("noisy", "--split", "all", "--slices", "1")[0] == 0
    assert len(rows(tmp_path / "report")) == 4


# -- Arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["noisy", "nearest"], "nearest"),
        (["noisy", "--split", "training"], "--split"),
        (["noisy", "--protocol", "mine"], "--protocol"),
        (["noisy", "--noise", "poisson:0.1"], "--noise"),
        (["noisy", "--noise", "gaussian"], "--noise"),
        (["noisy", "--noise", "gaussian:0"], "--noise"),
        (["noisy", "--noise", "gaussian:0.1,-0.1"], "--noise"),
        (["noisy", "--noise", "gaussian:much"], "--noise"),
        (["noisy", "--noise", "gaussian:nan"], "--noise"),
        (["noisy", "--noise", "gaussian:0.1,inf"], "--noise"),
        (["noisy", "--devices", "tpu"], "--devices"),
        (["noisy", "--protocol", "reference", "--slices", "2"], "--slices"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_word_that_is_unknown_is_refused_with_2(evaluate, tmp_path, words, path):
    assert_refused(evaluate(*words), 2, path)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("words", [[], ["noisy", "--slices", "0"]], ids=["none", "no slices"])
def test_invalid_options_are_refused_with_2(engine, words):
    code, out, err = engine("evaluate", *words)
    assert (code, out) == (2, "")
    assert err.endswith("See engine --help.\n")


def test_two_runs_of_one_name_are_refused(evaluate, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "trained")
    told = assert_refused(evaluate(trained, tmp_path / "trained"), 5, tmp_path / "trained")
    assert told["remedy"] == "Rename one of them"


def test_two_priors_of_one_name_are_refused(evaluate, cpu, tmp_path):
    runs = [untrained(tmp_path / i / "flat", tiny("unet2d"), cpu).folder for i in "ab"]
    told = assert_refused(evaluate(*(f"prior@{run}" for run in runs)), 5, f"prior@{runs[1]}")
    assert told["cause"] == "is a second prior@flat"
    told = assert_refused(evaluate(*(2 * [f"prior@{runs[0]}"])), 2)
    assert told["cause"] == "is named twice"


def test_data_that_are_not_there_are_refused(evaluate, tmp_path):
    assert_refused(evaluate("noisy", data=tmp_path / "none"), 3, tmp_path / "none")


def test_invalid_input_is_refused_without_tensorflow(trained, dataset, tmp_path):
    program = (
        "import json, sys, engine.cli.main\n"
        "print([engine.cli.main.run(words) for words in json.loads(sys.argv[1])])\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))\n"
    )
    tail = ["--data", str(dataset)]
    words = [
        ["evaluate", "--help"],
        ["import", "--help"],
        ["evaluate", "nearest", *tail],
        ["evaluate", "noisy", "--noise", "gaussian:0", *tail],
        ["evaluate", "noisy", *tail],
        ["evaluate", str(trained), "--split", "all", *tail],
        ["import", "none.h5", "--network", "unet2d", "--run", "run"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(words)],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.splitlines()[-2:] == ["[0, 0, 2, 2, 3, 5, 3]", "[]"]


@pytest.mark.usefixtures("undrawn")
def test_an_existing_report_is_not_replaced(evaluate, trained, tmp_path):
    assert evaluate(trained)[0] == 0
    before = (tmp_path / "report" / "report.json").read_bytes()
    code, _, err = evaluate(trained, "--noise", "gaussian:0.05")
    assert code == 4
    assert "report.json" in err
    assert (tmp_path / "report" / "report.json").read_bytes() == before


@pytest.mark.usefixtures("undrawn")
def test_other_scans_of_the_same_names_are_not_a_run_s_split(evaluate, trained, dataset, tmp_path):
    from volumes import nifti
    from volumes.phantoms.abdomen import abdomen

    for case in dataset.iterdir():
        hu, spacing_mm = abdomen((4, 32, 32), rng=np.random.default_rng(99))
        folder = tmp_path / "other" / case.name
        folder.mkdir(parents=True)
        nifti.write_hu(folder / "imaging.nii.gz", hu, spacing_mm)
    code, _, err = evaluate(trained, data=tmp_path / "other")
    assert code == 5
    assert "has another case_" in err


@pytest.mark.usefixtures("undrawn")
def test_where_networks_see_different_priors_none_of_them_is_that_of_classical_methods(
    engine, cpu, dataset, tmp_path
):
    runs = [
        untrained(tmp_path / name, tiny("respr_unet3d", f"prior={name}"), cpu).folder
        for name in ("noisy", "turned")
    ]
    runs = [run.rename(tmp_path / f"respr_{run.name}") for run in runs]
    words = ["--data", dataset, "--split", "all", "--slices", "1", "-q"]
    for given, radius in ((runs[:1], 0), (runs, 4)):
        report = tmp_path / f"report{radius}"
        code, _, error = engine("evaluate", "prior", *given, *words, "-o", report)
        assert code == 0, error
        assert json.loads((report / "report.json").read_text())["prior"]["radius"] == radius
