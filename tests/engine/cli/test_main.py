import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from engine import __version__
from engine.checkpoints import checkpoint
from engine.comparison.classical import METHODS
from engine.recipe.shipped_networks import shipped_names
from engine.runs.run import Run
from tests.engine.tiny import content, head, scan_file, shrinking, tiny, untrained, voxels

REFUSAL = re.compile(r"engine: error: (?P<path>[^:]+): (?P<cause>.+)[.] (?P<remedy>.+)[.]\n")


@pytest.fixture
def scan(tmp_path):
    stored = np.random.default_rng(0).integers(-900, 300, (4, 16, 16), np.int16)
    return scan_file(tmp_path / "scan.nii.gz", stored)


@pytest.fixture
def fit(engine, dataset, tmp_path):
    """Fits a tiny recipe in the folder `run`."""

    def call(*more, name="unet3d", data=dataset):
        run = tmp_path / "run"
        return engine("fit", name, *shrinking(name), "--data", data, "--run", run, *more)

    return call


def steps(run):
    """The steps of a run's metrics, in order."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row["step"] for row in map(json.loads, lines) if "loss" in row]


def assert_refused(result, code, path=None):
    """One line on stderr, nothing on stdout, and the exit code of the contract."""
    assert result[0] == code
    assert result[1] == ""
    told = REFUSAL.fullmatch(result[2])
    assert told, result[2]
    if path is not None:
        assert told["path"] == str(path)
    return told


# -- Arguments -------------------------------------------------------------------------------------


def test_help_names_every_command(engine):
    code, out, err = engine("--help")
    assert (code, err) == (0, "")
    for command in ("fit", "denoise", "degrade", "phantom", "info", "verify", "bench"):
        assert re.search(rf"^\W*{command}\s", out, re.MULTILINE)
    assert "not a medical device" in out


@pytest.mark.parametrize(
    "command", ["fit", "denoise", "degrade", "phantom", "info", "verify", "bench"]
)
def test_every_command_has_help(engine, command):
    code, out, _ = engine(command, "--help")
    assert code == 0
    assert f"Usage: engine {command}" in out


def test_the_notice_on_medical_use_is_in_every_first_place(engine):
    readme = Path(__file__).parents[3] / "README.md"
    assert "**Research use. Not a medical device.**" in readme.read_text()
    assert "Research use, not a medical device." in engine("denoise", "--help")[1]


def test_the_version_is_that_of_the_package(engine):
    assert engine("--version") == (0, f"engine {__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "unet3d", "--bogus"],
        ["frobnicate"],
        ["denoise"],
        ["fit", "unet3d", "--steps", "many"],
        ["fit", "unet3d", "--steps", "0"],
        ["fit", "unet3d", "--seed", "-1"],
        ["denoise", "scan.nii", "--max-gib", "-1"],
        ["degrade", "scan.nii"],
    ],
    ids=" ".join,
)
def test_invalid_options_end_with_2_and_one_line(engine, words):
    code, out, err = engine(*words)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"engine: error: .+[^.]\. See engine --help\.\n", err)


def test_an_unknown_command_ends_with_the_one_that_was_meant(engine):
    assert engine("denoiz")[2].endswith("Did you mean 'denoise'? See engine --help.\n")


def test_the_help_of_evaluate_names_every_method(engine):
    _, out, _ = engine("evaluate", "--help")
    assert all(name in out for name in [*shipped_names(), *METHODS])


def test_no_words_show_the_help_and_end_with_2(engine):
    code, out, err = engine()
    assert code == 2
    assert "Usage: engine" in out + err
    assert "error" not in err


# -- Refusals --------------------------------------------------------------------------------------


def test_an_unknown_recipe_ends_with_2_and_the_nearest_name(engine):
    code, out, err = engine("fit", "unet3e")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("engine: error: unet3e: is no recipe. Did you mean unet3d")


def test_a_missing_data_folder_ends_with_3(fit, tmp_path):
    told = assert_refused(fit(data=tmp_path / "none"), 3, tmp_path / "none")
    assert "--data" in told["remedy"]
    assert not (tmp_path / "run").exists()


def test_an_empty_data_folder_ends_with_3(fit, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(fit(data=tmp_path / "empty"), 3, tmp_path / "empty")


def test_too_few_cases_for_the_split_end_with_3(fit, dataset):
    assert_refused(fit("split.validation=9"), 3, dataset)


def test_a_bad_scan_among_the_cases_ends_with_3(fit, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "data")
    bad = tmp_path / "data" / "case_00002" / "imaging.nii.gz"
    bad.write_bytes(b"<html>not found</html>")
    told = assert_refused(fit(data=tmp_path / "data"), 3, bad)
    assert "web page" in told["cause"]


def test_all_bad_scans_are_named_at_once(fit, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "data")
    bad = [tmp_path / "data" / f"case_0000{i}" / "imaging.nii.gz" for i in (1, 3)]
    for path in bad:
        path.write_bytes(b"")
    told = assert_refused(fit(data=tmp_path / "data"), 3, tmp_path / "data")
    assert "2 scans cannot be used" in told["cause"]
    assert all(str(path) in told["cause"] for path in bad)


def test_the_same_scan_on_two_sides_of_the_split_ends_with_3(fit, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "data")
    names = ("case_00000", "case_00001")
    one, other = (tmp_path / "data" / name / "imaging.nii.gz" for name in names)
    shutil.copy(one, other)
    result = fit(
        "split.validation=case_00000", "split.test=case_00002", "-q", data=tmp_path / "data"
    )  # fmt: skip
    assert "has the voxels of case_0000" in assert_refused(result, 3)["cause"]


def test_a_scan_whose_voxels_are_damaged_ends_with_3(fit, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "data")
    bad = tmp_path / "data" / "case_00002" / "imaging.nii.gz"
    block = bytearray(bad.read_bytes())
    block[-6] ^= 1
    bad.write_bytes(block)
    assert "damaged" in assert_refused(fit("-q", data=tmp_path / "data"), 3, bad)["cause"]


def test_a_model_that_is_no_run_ends_with_5(engine, scan, tmp_path):
    assert_refused(engine("denoise", scan, "-m", tmp_path), 5)


def test_a_bad_scan_ends_with_3(engine, unet_run, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"PK\x03\x04")
    told = assert_refused(engine("denoise", bad, "-m", unet_run), 3, bad)
    assert "zip" in told["cause"]


def test_existing_output_ends_with_4(engine, unet_run, scan):
    out = scan.with_name("scan_denoised.nii.gz")
    out.touch()
    told = assert_refused(engine("denoise", scan, "-m", unet_run), 4, out)
    assert "--overwrite" in told["remedy"]


def test_a_run_of_another_recipe_ends_with_5_and_the_field(engine, trained, dataset):
    before = (trained / "recipe.json").read_bytes()
    result = engine(
        "fit", "unet3d", *shrinking(), "batch=4", "-q", "--data", dataset, "--run", trained
    )  # fmt: skip
    told = assert_refused(result, 5, trained)
    assert "batch: 2 -> 4" in told["cause"]
    assert "--fresh" in told["remedy"]
    assert (trained / "recipe.json").read_bytes() == before


def test_a_device_that_is_none_ends_with_2(fit, tmp_path):
    assert_refused(fit("--devices", "tpu"), 2, "--devices")
    assert not (tmp_path / "run").exists()


def test_a_name_with_a_newline_is_refused_in_one_line(engine, tmp_path):
    bad = tmp_path / "a\nb.nii"
    bad.write_bytes(b"")
    code, _, err = engine("info", bad)
    assert code == 3
    assert err.count("\n") == 1


def test_debug_shows_where_a_refusal_comes_from_and_keeps_its_code(engine, tmp_path):
    code, _, err = engine("info", tmp_path / "none.nii", "--debug")
    assert code == 3
    assert err.startswith("Traceback (most recent call last):")
    assert REFUSAL.fullmatch(err.splitlines(keepends=True)[-1])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ZeroDivisionError("division by zero"), 1, "This is a bug"),
        (MemoryError(), 7, "Use a smaller --tile"),
        (type("ResourceExhaustedError", (Exception,), {})("OOM"), 7, "the device has too little"),
        (
            OSError(errno.EMFILE, "Too many open files", "a.nii"),
            4,
            "a.nii: too many are open. Raise",
        ),
        (FileNotFoundError(2, "No usable temporary directory found in [...]"), 4, "Set TMPDIR"),
        (KeyboardInterrupt(), 130, "stopped: by Ctrl-C. Finished files are complete"),
    ],
    ids=["bug", "memory", "device memory", "open files", "temporary folder", "Ctrl-C"],
)
def test_every_error_has_an_exit_code(
    engine, scan, monkeypatch, error, code, said
):  # fmt: skip
    def failing(*_, **__):
        raise error

    monkeypatch.setattr("engine.diagnostics.info.describe", failing)
    found, out, err = engine("info", scan)
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") <= 1
    assert "Traceback" not in err


# -- Without TensorFlow ----------------------------------------------------------------------------

ONE_PROCESS = """
import json, sys
def loaded():
    return sorted({"tensorflow", "keras"} & {name.split(".")[0] for name in sys.modules})
import engine
found = {"import engine": [0, loaded()]}
import engine.cli.main
found["import engine.cli"] = [0, loaded()]
for name, words in json.loads(sys.argv[1]).items():
    found[name] = [engine.cli.main.run(words), loaded()]
print(json.dumps(found))
"""
LIGHT = {
    "import engine": 0, "import engine.cli": 0, "--help": 0, "fit --help": 0, "info of a scan": 0,
    "info of a run": 0, "plan": 0, "phantom": 0, "degrade": 0, "fit of bad data": 3,
    "fit of damaged data": 3, "fit of no recipe": 2, "fit from no run": 5,
    "fit from another network": 5, "fit from no step": 5, "denoise of a bad scan": 3,
    "denoise into existing output": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def light(unet_run, dataset, tmp_path_factory):
    """The modules that one process has imported after each of many commands, and exit codes."""
    folder = tmp_path_factory.mktemp("light")
    scan = scan_file(folder / "scan.nii", np.zeros((2, 8, 8), "<i2"))
    (folder / "taken.nii").touch()
    (folder / "bad.nii").touch()
    shutil.copytree(dataset, folder / "bad")
    (folder / "bad" / "case_00001" / "imaging.nii.gz").write_bytes(b"")
    shutil.copytree(dataset, folder / "damaged")
    damaged = folder / "damaged" / "case_00001" / "imaging.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    fit = ["fit", "unet3d", *shrinking(), "--run", str(folder / "run"), "-q", "--data"]
    denoise = ["denoise", "-m", str(unet_run)]
    words = {
        "--help": ["--help"],
        "fit --help": ["fit", "--help"],
        "info of a scan": ["info", scan],
        "info of a run": ["info", unet_run],
        "plan": [*denoise, scan, "--plan"],
        "phantom": ["phantom", folder / "phantoms", "--cases", "1", "--shape", "2,16,16"],
        "degrade": ["degrade", scan, "--as", "gaussian:0.1"],
        "fit of bad data": [*fit, folder / "bad"],
        "fit of damaged data": [*fit, folder / "damaged"],
        "fit of no recipe": ["fit", "unet3e"],
        "fit from no run": [*fit, dataset, "--from", folder / "none"],
        "fit from another network": [*fit, dataset, "network.width=3", "--from", unet_run],
        "fit from no step": [*fit, dataset, "--from", unet_run, "--from-checkpoint", "7"],
        "denoise of a bad scan": [*denoise, folder / "bad.nii"],
        "denoise into existing output": [*denoise, scan, "-o", folder / "taken.nii"],
    }
    plain = {name: [str(word) for word in line] for name, line in words.items()}
    done = subprocess.run(
        [sys.executable, "-c", ONE_PROCESS, json.dumps(plain)],
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", LIGHT)
def test_commands_without_a_network_do_not_import_tensorflow(light, name):
    assert light[name] == [LIGHT[name], []]


# -- Fitting ---------------------------------------------------------------------------------------


def test_a_dry_run_shows_the_cases_and_trains_nothing(fit, tmp_path):
    code, out, _ = fit("--dry-run")
    assert code == 0
    for side, count in (("training", 2), ("validation", 1), ("test", 1)):
        line = next(line for line in out.splitlines() if line.startswith(f"{side}: "))
        assert len(line.split(", ")) == count
    assert "step: 4,096 voxels" in out
    assert "training: 4 steps" in out
    assert "UNet3D(width=2, levels=2)" in out
    assert list(tmp_path.iterdir()) == []


def test_fitting_prints_the_folder_of_the_run(fit, tmp_path):
    code, out, err = fit("--steps", "2")
    assert (code, out) == (0, f"{tmp_path / 'run'}\n")
    assert "step 2: validation PSNR" in err


def test_a_quiet_fit_says_nothing_else(fit, tmp_path):
    assert fit("--steps", "1", "-q") == (0, f"{tmp_path / 'run'}\n", "")


def test_a_run_resumes_where_it_stopped_and_prints_the_step(fit, tmp_path, trained):
    run = tmp_path / "run"
    assert fit("--steps", "2")[0] == 0
    code, _, err = fit("--steps", "4")
    assert code == 0
    assert f"Resuming {run} from step 2\n" in err
    assert steps(run) == [1, 2, 3, 4]
    # Bitwise equal to an uninterrupted run.
    last, whole = (Run(folder).checkpoint("last") for folder in (run, trained))
    assert checkpoint.fingerprint(last) == checkpoint.fingerprint(whole)


def test_a_finished_run_learns_no_more(fit, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    code, _, err = fit()
    assert code == 0
    assert "from step 4" in err
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_run_resumed_on_another_machine_warns_that_its_bits_may_differ(fit, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    note = tmp_path / "run" / "run.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"threads": 99}))
    code, _, err = fit("-q")
    assert code == 0
    assert err == (
        f"engine: warning: {tmp_path / 'run'}: threads changed: resumed, not to the bit\n"
    )  # fmt: skip


def test_a_damaged_checkpoint_gives_a_warning_and_the_previous_one_is_used(fit, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "step-00000004" / "state.npz").write_bytes(b"")
    code, _, err = fit()
    assert code == 0
    assert "engine: warning: " in err
    assert "step-00000004: is damaged" in err
    assert "from step 2" in err
    last, whole = (Run(folder).checkpoint("last") for folder in (tmp_path / "run", trained))
    assert checkpoint.fingerprint(last) == checkpoint.fingerprint(whole)


def test_a_run_with_damaged_checkpoints_only_is_not_restarted(fit, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    for state in (tmp_path / "run" / "checkpoints").glob("step-*/state.npz"):
        state.write_bytes(b"")
    code, _, err = fit("-q")
    assert code == 5
    assert "--fresh" in err


def test_fresh_starts_from_step_0_and_keeps_the_old_run(fit, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    code, _, err = fit("--fresh", "batch=4", "--steps", "1")
    assert code == 0
    (aside,) = tmp_path.glob("run.*")
    assert f"The existing run is now {aside}\n" in err
    assert steps(aside) == [1, 2, 3, 4]
    assert steps(tmp_path / "run") == [1]


def test_the_folder_of_the_shell_may_be_a_run_that_starts_anew(
    engine, dataset, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    words = ("fit", "unet3d", *shrinking(), "--data", dataset, "--run", ".", "-q")
    assert engine(*words)[0] == 0
    assert engine(*words, "--fresh", "--dry-run")[0] == 0
    assert engine(*words, "--fresh", "--steps", "2")[0] == 0
    assert len(list(tmp_path.glob("here*"))) == 2


@pytest.mark.parametrize("wrong", [["--data", "none"], ["--devices", "tpu"], ["batch=0"]])
def test_a_fresh_start_that_is_refused_moves_nothing(fit, trained, tmp_path, wrong):
    shutil.copytree(trained, tmp_path / "run")
    assert fit("--fresh", *wrong)[0] in (2, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_steps_and_seed_are_fields_of_the_recipe(fit):
    code, out, _ = fit("--steps", "9", "--seed", "7", "--dry-run", "--json")
    assert code == 0
    resolved = json.loads(out)["recipe"]
    assert (resolved["steps"], resolved["seed"]) == (9, 7)


def test_the_data_folder_may_stand_in_the_environment(engine, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINE_DATA", str(dataset))
    monkeypatch.chdir(tmp_path)
    code, out, _ = engine("fit", "unet3d", *shrinking(), "--dry-run")
    assert code == 0
    assert "case_00000" in out


def test_a_message_says_that_code_of_a_foreign_recipe_is_run(fit, engine, dataset, tmp_path):
    from engine.recipe.recipe_file import find_recipe

    mine = tmp_path / "mine.py"
    mine.write_text(find_recipe("unet3d").read_text())
    _, _, err = engine("fit", mine, *shrinking(), "--data", dataset, "--dry-run")
    assert f"Running the Python code of {mine}\n" in err
    assert "Running" not in fit("--dry-run")[2]


DIVERGES = ("learning_rate=1e30", "steps=50", "validate_every=50")


def test_a_training_that_leaves_the_finite_ends_with_6(fit, tmp_path):
    code, _, err = fit(*DIVERGES, "checkpoint_every=1", "-q")
    assert code == 6
    assert "3 steps in a row without a finite loss" in err
    assert "learning rate 1e+30" in err
    assert re.search(r"case_0000\d at \(", err)
    saved = checkpoint.load(Run(tmp_path / "run").checkpoint("last"))
    assert all(np.isfinite(array).all() for array in saved.values())


def test_a_validation_that_is_not_finite_ends_with_6_and_is_no_best(fit, tmp_path):
    code, _, err = fit(*DIVERGES, "validate_every=2", "checkpoint_every=1", "-q")
    assert code == 6
    assert "validation at step 2 is not finite" in err
    run = Run(tmp_path / "run")
    assert checkpoint.verified(run.checkpoint("last")).best_step is None


def test_a_full_disk_ends_with_4_and_keeps_the_last_checkpoint(fit, tmp_path, monkeypatch):
    assert fit("--steps", "2")[0] == 0

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("numpy.savez", full)
    code, _, err = fit("--steps", "4", "-q")
    assert code == 4
    assert "No space left on device" in err
    assert checkpoint.steps(Run(tmp_path / "run").checkpoints) == [2]


def test_a_run_without_checkpoint_restarts_without_rows_of_its_first_try(fit, tmp_path, trained):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "checkpoints")
    about = json.loads((run / "run.json").read_text())
    assert about.pop("saved")
    (run / "run.json").write_text(json.dumps(about))
    assert fit()[0] == 0
    names = ("step", "method", "loss")
    told = [
        [tuple(row.get(name) for name in names) for row in map(json.loads, lines)]
        for lines in (
            (folder / "metrics.jsonl").read_text().splitlines() for folder in (run, trained)
        )
    ]
    assert told[0] == told[1]


# -- The demo --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(cpu, tmp_path_factory):
    """The demo on three tiny phantoms: its run folder and what it printed."""
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("demo") / "mine"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        patch.setattr("engine.diagnostics.demo.CASES", 3)
        patch.setattr("engine.diagnostics.demo.SHAPE", (8, 32, 32))
        line = ["fit", "respr_unet3d", "--demo", *shrinking(), "-q", "--run", str(folder)]
        assert run(line) == 0
    return folder, out.getvalue()


def files(run):
    """The noisy, denoised and clean scan of a demo."""
    (denoised,) = (run / "demo").glob("*_denoised.nii.gz")
    case = denoised.name.removesuffix("_denoised.nii.gz")
    clean = run.with_name("mine-phantoms") / case / "imaging.nii.gz"
    return {"noisy": run / "demo" / f"{case}.nii.gz", "denoised": denoised, "clean": clean}


def test_the_demo_makes_its_own_phantoms(demo):
    run, _ = demo
    assert len(list(run.with_name("mine-phantoms").glob("case_*/imaging.nii.gz"))) == 3


def test_the_demo_ends_with_a_denoised_phantom_and_its_picture(demo):
    found = files(demo[0])
    assert head(found["denoised"]) == head(found["noisy"])
    assert content(found["denoised"]) != content(found["noisy"])
    assert (demo[0] / "demo" / "preview.png").read_bytes().startswith(b"\x89PNG")


def test_a_demo_that_is_repeated_keeps_the_overrides_that_it_was_begun_with(
    engine, demo, tmp_path, monkeypatch
):
    monkeypatch.setattr("engine.diagnostics.demo.CASES", 3)
    run = shutil.copytree(demo[0], tmp_path / "mine")
    shutil.copytree(demo[0].with_name("mine-phantoms"), tmp_path / "mine-phantoms")
    code, _, err = engine("fit", "--demo", "--run", run)
    assert code == 0
    assert "network.width=2" in err.splitlines()[0]
    assert (run / "recipe.json").read_bytes() == (demo[0] / "recipe.json").read_bytes()


def test_the_demo_ends_with_a_table_of_the_scores_of_its_files(demo):
    run, out = demo
    unit = {
        name: np.clip((voxels(path).astype(float) + 1000) / 1400, 0, 1)
        for name, path in files(run).items()
    }
    for title in ("PSNR (dB)", "SSIM", "relative L2 (%)", "RMSE (HU)"):
        assert title in out
    for name in ("noisy", "denoised"):
        mse = np.mean((unit[name] - unit["clean"]) ** 2)
        line = next(line for line in out.splitlines() if re.search(rf"\W{name}\s", line))
        assert f" {-10 * np.log10(mse):.2f} " in line
        assert f" {1400 * np.sqrt(mse):.1f} " in line


# -- Phantoms --------------------------------------------------------------------------------------


def test_phantoms_are_written_as_cases(engine, tmp_path):
    code, out, _ = engine("phantom", tmp_path, "--cases", "2", "--shape", "3,16,20")
    assert code == 0
    paths = [tmp_path / f"case_0000{i}" / "imaging.nii.gz" for i in range(2)]
    assert out.splitlines() == [str(path) for path in paths]
    assert all(voxels(path).shape == (3, 16, 20) for path in paths)


def test_phantoms_are_a_function_of_the_seed(engine, tmp_path):
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        words = ("--cases", "1", "--shape", "2,16,16", "--seed", str(seed))
        assert engine("phantom", tmp_path / name, *words)[0] == 0
    one, same, other = (
        (tmp_path / name / "case_00000" / "imaging.nii.gz").read_bytes()
        for name in ("one", "same", "other")
    )
    assert one == same
    assert one != other


def test_phantoms_replace_nothing(engine, tmp_path):
    taken = tmp_path / "case_00000" / "imaging.nii.gz"
    taken.parent.mkdir()
    taken.write_bytes(b"mine")
    assert engine("phantom", tmp_path, "--shape", "2,16,16")[0] == 4
    assert taken.read_bytes() == b"mine"


# -- Signals ---------------------------------------------------------------------------------------


def test_a_stopped_training_ends_with_75_and_a_checkpoint(fit, dataset, tmp_path):
    run = tmp_path / "run"
    line = [sys.executable, "-m", "engine", "fit", "unet3d", *shrinking(), "-q"]
    many = ["steps=1000000", "validate_every=1000000", "checkpoint_every=1000000"]
    process = subprocess.Popen(
        [*line, *many, "--data", str(dataset), "--run", str(run)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        # Before its first step, a training ends at once and saves nothing.
        while not (run / "metrics.jsonl").exists() or not steps(run):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 75
    assert out == ""
    told = re.fullmatch(rf"engine: error: {run}: stopped at step ([\d,]+) by SIGTERM\. .+\n", err)
    step = int(told[1].replace(",", ""))
    assert checkpoint.steps(Run(run).checkpoints) == [step]
    assert steps(run) == list(range(1, step + 1))
    code, _, err = fit("--steps", str(step + 1))
    assert code == 0
    assert f"from step {step:,}\n" in err


def test_a_model_of_first_weights_can_be_used(engine, cpu, scan, tmp_path):
    run = untrained(tmp_path / "mine", tiny("dncnn"), cpu)
    assert engine("denoise", scan, "-m", run.folder, "--checkpoint", "1")[0] == 0
    assert voxels(scan.with_name("scan_denoised.nii.gz")).shape == (4, 16, 16)


@pytest.fixture
def series(tmp_path):
    """A folder of four files of two volumes, of grey values."""
    from tests.gates.catalogue import content

    for i in range(4):
        grey = np.random.default_rng(i).integers(0, 256, (4, 16, 16, 2)).astype("i2")
        (tmp_path / f"patient{i}.nii").write_bytes(content(grey))
    return tmp_path


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_read_options_apply_to_the_scans_of_a_folder(engine, series, tmp_path, command):
    words = {
        "fit": ("fit", "unet3d", *shrinking(), "--run", tmp_path / "run", "--dry-run"),
        "evaluate": ("evaluate", "noisy", "-o", tmp_path / "report", "--split", "all",
                     "--slices", "1", "--no-tuning"),
    }[command]  # fmt: skip
    code, _, err = engine(*words, "--data", series)
    assert code == 3
    assert "holds 2 volumes" in err
    if command == "evaluate":  # a dry run of fit looks at no voxel
        code, _, err = engine(*words, "--data", series, "--volume", "1")
        assert code == 3
        assert "--assume-hu" in err
    assert engine(*words, "--data", series, "--volume", "1", "--max-gib", "1e-9")[0] == 3
    assert engine(*words, "--data", series, "--volume", "1", "--assume-hu")[0] == 0


def test_a_training_warns_about_odd_scans(engine, tmp_path):
    from tests.gates.catalogue import content as block

    for i in range(4):
        hu = np.random.default_rng(i).integers(-1000, 300, (4, 16, 16)).astype("i2")
        (tmp_path / f"patient{i}.nii").write_bytes(block(hu, sform_code=300 if i == 2 else 1))
    code, _, err = engine("fit", "unet3d", *shrinking(), "--data", tmp_path, "--dry-run", "-q")
    assert code == 0
    assert err == f"engine: warning: {tmp_path / 'patient2.nii'}: has the unknown sform_code 300\n"


@pytest.fixture
def gaps(tmp_path):
    """A folder of scans, one of which has voxels that are not finite, and that scan."""
    folder = tmp_path / "gaps"
    folder.mkdir()
    for i in range(4):
        hu = np.random.default_rng(i).integers(-1000, 300, (4, 16, 16)).astype("f4")
        hu[2, 3, 4:9] = np.nan if i == 2 else 0
        scan_file(folder / f"patient{i}.nii", hu)
    return folder, folder / "patient2.nii"


def test_every_training_warns_about_voxels_that_are_not_finite(engine, gaps, tmp_path):
    folder, scan = gaps
    for fresh in ((), ("--fresh",)):  # read, and found in the cache
        code, _, err = engine(
            "fit", "unet3d", *shrinking(), "crop.shape=4,16,16", "--data", folder, "--run",
            tmp_path / "run", "-q", *fresh,
        )  # fmt: skip
        assert code == 0
        told = f"engine: warning: {scan}: holds 5 voxels that are not finite\n"
        assert err.count(told) == 1


def test_a_comparison_warns_about_them_once(engine, gaps, tmp_path):
    folder, scan = gaps
    code, _, err = engine(
        "evaluate", "noisy", "--data", folder, "--split", "all", "--noise", "gaussian:0.1",
        "--slices", "1", "--no-tuning", "-o", tmp_path / "report", "-q",
    )  # fmt: skip
    assert code == 0
    assert err == f"engine: warning: {scan}: holds 5 voxels that are not finite\n"


def test_who_stops_reading_the_output_is_no_bug():
    command = f"{sys.executable} -m engine fit --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_a_run_without_a_record_of_its_cases_is_not_resumed(engine, trained, dataset, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "run.json").write_text("{")
    words = ["fit", "unet3d", *shrinking(), "--data", dataset, "--run", run, "steps=6"]
    code, _, error = engine(*words)
    assert code == 5
    assert "run.json: is damaged" in error
    assert (run / "run.json").read_text() == "{"


@pytest.mark.parametrize("command", ["degrade a folder", "evaluate"])
def test_a_file_of_another_format_becomes_no_folder(engine, dataset, tmp_path, command):
    words = {
        "degrade a folder": ("degrade", dataset, "--as", "gaussian:0.1"),
        "evaluate": ("evaluate", "noisy", "--data", dataset, "--split", "all"),
    }[command]
    code, _, err = engine(*words, "-o", tmp_path / "out.csv")
    assert code == 2
    told = {
        "degrade a folder": "out.csv: is neither the name of a folder nor that of a .nii",
        "evaluate": f"Name a folder, such as -o {tmp_path / 'out'}.\n",
    }
    assert told[command] in err
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["x.html", "x.nii.gz", "x.PDF", "x.xlsx", "x.h5"])
def test_a_report_a_run_and_phantoms_do_not_become_a_folder_named_like_a_file(
    engine, dataset, tmp_path, name
):
    for words in (
        ("evaluate", "noisy", "--data", dataset, "--split", "all", "-o"),
        ("import", tmp_path / "weights.h5", "--network", "unet2d", "--run"),
        ("phantom",),
    ):
        told = assert_refused(engine(*words, tmp_path / name), 2, tmp_path / name)
        assert told["remedy"].endswith(str(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_that_the_shell_left_alone_is_the_home_folder(
    engine, dataset, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "kits").symlink_to(dataset)
    dry = ("fit", "unet3d", *shrinking(), "--dry-run")
    assert engine(*dry, "--data=~/kits")[0] == 0
    monkeypatch.setenv("ENGINE_DATA", "~/kits")
    assert engine(*dry)[0] == 0
    assert engine("phantom", "~/made", "--cases", "1", "--shape", "2,16,16")[0] == 0
    assert (tmp_path / "made" / "case_00000").is_dir()
    scan = "~/made/case_00000/imaging.nii.gz"
    assert engine("degrade", scan, "--as", "gaussian:0.1", "-o~/d.nii")[0] == 0
    assert (tmp_path / "d.nii").is_file()
    none = f"engine: error: {tmp_path / 'none'}: "
    assert engine("denoise", scan, "-m", "~/none")[2].startswith(none)
    assert engine("fit", "respr_unet3d", "prior=~/none:2")[2].startswith(none)
    assert engine("evaluate", "prior@~/none")[2].startswith(none)
    code, _, err = engine("info", "~nobody-of-this-name")
    assert (code, "~nobody-of-this-name: " in err) == (3, True)


def test_a_folder_is_no_file_that_can_be_replaced(engine, scan, tmp_path):
    (tmp_path / "d.nii").mkdir()
    for more in ((), ("--overwrite",)):
        code, _, err = engine(
            "degrade", scan, "--as", "gaussian:0.1", "-o", tmp_path / "d.nii", *more
        )
        assert code == 4
        assert err == f"engine: error: {tmp_path / 'd.nii'}: is a folder. Choose another -o.\n"


def test_a_comparison_without_its_recordings_is_refused_before_a_report_is_begun(
    engine, dataset, tmp_path
):
    words = ("--data", dataset, "--split", "all", "--noise", "recorded:nope")
    code, _, err = engine("evaluate", "noisy", *words, "-o", tmp_path / "report")
    assert code == 3
    assert "has no nope.nii.gz beside imaging.nii.gz" in err
    assert not (tmp_path / "report").exists()


def test_a_run_that_resumes_with_other_code_gives_a_message(fit, monkeypatch):
    assert fit("--steps", "2")[0] == 0
    monkeypatch.setattr("engine.training.provenance.code_sha256", lambda: "0" * 64)
    code, _, err = fit("--steps", "4")
    assert code == 0
    assert "code_sha256 changed: resumed, not to the bit" in err
