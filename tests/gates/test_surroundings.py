"""G18: commands in hostile surroundings: odd streams, odd environments, and any names of files."""

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.runs.run import Run
from tests.engine.tiny import content, scan_file, shrinking
from tests.gates.commands import Commands
from volumes.dataset import find_cases

SHIPPED = Path(__file__).parents[2] / "recipes" / "weights" / "ct_denoiser"

# Redirections and environment, and the exit code of a command that has written its files.
STREAMS = {
    "stdin closed": ("<&-", {}, 0),
    "stdout closed": (">&-", {}, 0),
    "stderr closed": ("2>&-", {}, 0),
    "all closed": ("<&- >&- 2>&-", {}, 0),
    "stdout full": (">/dev/full", {}, 4),
    "stderr full": ("2>/dev/full", {}, 0),
    "both full": (">/dev/full 2>/dev/full", {}, 4),
    "nobody reads stdout": ("> >(exec <&-; sleep 9)", {}, 141),
    "nobody reads stderr": ("2> >(exec <&-; sleep 9)", {}, 0),
    "ascii": ("", {"PYTHONIOENCODING": "ascii"}, 0),
    "latin-1": ("", {"PYTHONIOENCODING": "latin-1"}, 0),
    "C": ("", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 0),
}


def shell(redirections, environment, *words, limits="true"):
    """The exit code of a command in a shell that redirects its streams and sets its limits."""
    line = f'{limits}; exec "$0" -m engine "$@" {redirections}'
    return subprocess.run(
        ["bash", "-c", line, sys.executable, *map(str, words)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **environment}, check=False,
    ).returncode  # fmt: skip


@pytest.fixture(scope="module")
def plain(dataset, tmp_path_factory):
    """What the command writes whose streams are odd in the tests."""
    out = tmp_path_factory.mktemp("plain") / "out.nii.gz"
    assert shell("", {}, *degrading(dataset), "-o", out) == 0
    return content(out)


def degrading(dataset):
    return "degrade", dataset / "case_00000" / "imaging.nii.gz", "--as", "gaussian:0.1"


@pytest.mark.gate("G18")
@pytest.mark.parametrize("name", STREAMS)
def test_files_are_complete_whatever_the_streams_are(dataset, plain, tmp_path, faults, name):
    redirections, environment, code = STREAMS[name]
    out = tmp_path / "odd.nii.gz"
    assert shell(redirections, environment, *degrading(dataset), "-o", out) == code
    assert content(out) == plain
    json.loads((tmp_path / "odd.json").read_text())
    assert not list(tmp_path.glob(".*"))
    assert shell(redirections, environment, "info", tmp_path / "none.nii") == 3
    faults.handled(2)


@pytest.mark.gate("G18")
@pytest.mark.parametrize("name", ["all closed", "both full", "ascii", "C"])
def test_a_report_is_complete_whatever_the_streams_are(dataset, tmp_path, faults, name):
    redirections, environment, code = STREAMS[name]
    words = ("evaluate", "noisy", "--data", dataset, "--split", "all", "--no-tuning",
             "--slices", "1", "-o", tmp_path / "report")  # fmt: skip
    assert shell(redirections, environment, *words) == code
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {
        "scores.csv", "report.json", "report.md", "report.html", "slices-10pc.png",
        "closeup-10pc.png", "cases.png",
        "noise_power.png", "noise_power.csv",
    }  # fmt: skip
    assert "mean ± standard deviation" in (tmp_path / "report/report.md").read_text("utf-8")
    faults.handled()


# -- Environments ----------------------------------------------------------------------------------

# The environment of notebooks and of other programs, and the content of the user's keras.json.
ENVIRONMENTS = {
    "a notebook's backend": ({"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, None),
    "no backend": ({"MPLBACKEND": "nonsense"}, None),
    "channels first": ({}, {"image_data_format": "channels_first", "backend": "tensorflow"}),
    "other numbers": ({}, {"floatx": "float16", "epsilon": 0.1, "backend": "torch"}),
    "damaged": ({}, "{"),
}


def trained_in(folder, dataset, environment):
    """The hash of the weights of a training of one step."""
    words = ("fit", "unet3d", *shrinking(), "steps=1", "--data", dataset, "--run", folder, "-q")
    assert shell("", environment, *words) == 0
    assert (folder / "preview.png").stat().st_size > 0
    return checkpoint.fingerprint_of(Run(folder).opened("last")[1])


@pytest.mark.gate("G18")
def test_environments_of_other_programs_change_no_training(dataset, tmp_path, faults):
    plain = trained_in(tmp_path / "plain", dataset, {"KERAS_HOME": str(tmp_path)})
    for name, (environment, settings) in ENVIRONMENTS.items():
        home = tmp_path / f"home of {name}"
        home.mkdir()
        if settings is not None:
            text = settings if isinstance(settings, str) else json.dumps(settings)
            (home / "keras.json").write_text(text)
        environment = {**environment, "KERAS_HOME": str(home)}
        assert trained_in(tmp_path / name, dataset, environment) == plain, name
        faults.handled()


@pytest.mark.gate("G18")
def test_more_cases_than_open_files_are_compared(tmp_path, faults):
    cases, files = 70, 100  # each case has its voxels and its mask of padding
    (tmp_path / "data").mkdir()
    for i in range(cases):
        hu = np.random.default_rng(i).integers(-900, 300, (1, 8, 8)).astype("i2")
        scan_file(tmp_path / "data" / f"{i}.nii", hu)
    words = ("evaluate", "noisy", "--data", tmp_path / "data", "--split", "all", "--no-tuning",
             "-o", tmp_path / "report")  # fmt: skip
    assert shell("", {}, *words, limits=f"ulimit -n {files}") == 0
    assert len(json.loads((tmp_path / "report/report.json").read_text())["cases"]) == cases
    faults.handled()


@pytest.mark.gate("G18")
def test_a_link_that_leads_nowhere_is_refused_as_one(engine, dataset, tmp_path, faults):
    data = tmp_path / "data"
    shutil.copytree(dataset, data)
    link = data / "case_00009" / "imaging.nii.gz"
    link.parent.mkdir()
    link.symlink_to("../.git/annex/objects/Xq/MD5E-s9--0.nii.gz")
    for words in (
        ("fit", "unet3d", *shrinking(), "--data", data, "--run", tmp_path / "run"),
        ("evaluate", "noisy", "--data", data, "--split", "all"),
        ("denoise", link, "-m", SHIPPED), ("degrade", link, "--as", "gaussian:0.1"), ("info", link),
    ):  # fmt: skip
        code, _, err = engine(*words)
        assert code == 3
        assert f"{link}: cannot be read: it is a link to a file that is not there" in err
        assert "git annex get" in err
        faults.handled()
    assert not (tmp_path / "run").exists()


# -- Names -----------------------------------------------------------------------------------------

NAMES = [
    "M\udcfcller_1", "\udcff\udcfe", "a\nb\tc", "q\"u'o`te", "e\U0001f600", "r\u200fl",
    "cafe\u0301", "caf\u00e9", "k,omma", "[red] :bug: $x_$ _{", "-x", "%s{}|", "n" * 255, " space ",
    "\u5f71",
]  # fmt: skip


@pytest.fixture
def odd(tmp_path):
    """A folder of cases with odd names."""
    for i, name in enumerate(NAMES):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        hu = np.random.default_rng(i).integers(-1000, 300, (8, 24, 24)).astype("i2")
        scan_file(folder / "imaging.nii.gz", hu)
    return tmp_path / "data"


@pytest.mark.gate("G18")
def test_a_case_may_have_any_name_on_its_way_through_the_commands(engine, odd, tmp_path, faults):
    run, data = tmp_path / "r\udcfcn $_", ("--data", odd)
    fit = ("fit", "unet3d", *shrinking(), *data, "--run", run)
    assert engine(*fit, "steps=2")[0] == 0
    assert engine(*fit, "steps=4")[0] == 0
    recorded = json.loads((run / "run.json").read_text())["cases"]
    found = {name: sha for side in recorded.values() for name, sha in side.items()}
    assert found == {
        name: hashlib.sha256((odd / name / "imaging.nii.gz").read_bytes()).hexdigest()
        for name in NAMES
    }
    report = tmp_path / "rep\udcfcort"
    words = (*data, "--split", "all", "--allow-seen", "--no-tuning", "--slices", "1", "-o", report)
    assert engine("evaluate", "noisy", run, *words)[0] == 0
    text = (report / "scores.csv").read_bytes().decode()  # UTF-8
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    wanted = {name.encode(errors="backslashreplace").decode() for name in NAMES}
    assert {row["case"] for row in rows} == wanted
    assert set(json.loads((report / "report.json").read_text())["cases"]) == set(NAMES)
    lines = (report / "report.md").read_bytes().decode().splitlines()
    assert len([line for line in lines if line.startswith("| r\\udcfcn $_ |")]) >= 2
    assert engine("info", run)[0] == 0
    assert engine("import", run, "--run", tmp_path / "copy\udcfc")[0] == 0
    degraded = tmp_path / "degraded"
    assert engine("degrade", odd, "--as", "gaussian:0.1", "-o", degraded)[0] == 0
    assert {path.name for path in degraded.iterdir()} == set(NAMES)
    faults.handled(len(NAMES))


@pytest.mark.gate("G18")
def test_a_file_may_have_any_name_or_is_refused_by_it(tmp_path, faults):
    hu = np.random.default_rng(0).integers(-1000, 300, (4, 8, 8)).astype("i2")
    with Commands(tmp_path, memory_bytes=2**30, seconds=60) as commands:
        for name in NAMES:
            folder = tmp_path / "scans"
            folder.mkdir(exist_ok=True)
            scan = scan_file(folder / f"{name[:248]}.nii.gz", hu)
            done = commands.run(["degrade", scan, "--as", "gaussian:0.1"])
            if len(name) < 200:
                assert done.code == 0, done.err
                out = scan.with_name(f"{name}_gaussian-0.1.nii.gz")
                assert done.out == f"{out}\n"
                assert out.exists()
            else:
                assert done.code == 4
                assert "Choose a shorter name" in done.err
            assert done.err.count("\n") <= 1
            faults.handled()


@pytest.mark.gate("G18")
def test_files_of_any_name_are_the_cases_of_a_folder(engine, tmp_path, faults):
    names = [name[:200] for name in (*NAMES, "end\n", "\nbegin", "a.nii\n")]
    hu = np.random.default_rng(0).integers(-1000, 300, (4, 8, 8)).astype("i2")
    files = [scan_file(tmp_path / f"{name}.nii.gz", hu) for name in names]
    assert sorted(case.name for case in find_cases(tmp_path)) == sorted(names)
    out = tmp_path / "out"
    assert engine("degrade", *files, "--as", "gaussian:0.1", "-o", out)[0] == 0
    assert {path.name for path in out.glob("*.nii.gz")} == {
        f"{name}_gaussian-0.1.nii.gz" for name in names
    }
    faults.handled(len(names))


@pytest.mark.gate("G18")
@pytest.mark.parametrize(
    "words",
    [
        ["fit", "unet3d", "--run", "*", "--data", "DATA"],
        ["fit", "unet3d", "--data", "*"],
        ["fit", "*"],
        ["fit", "unet3d", "--from", "*", "--data", "DATA"],
        ["evaluate", "noisy", "--data", "*"],
        ["evaluate", "noisy", "--data", "DATA", "-o", "*"],
        ["evaluate", "*"],
        ["denoise", "*"],
        ["denoise", "s.nii", "-m", "*"],
        ["degrade", "*", "--as", "gaussian:0.1"],
        ["degrade", "DATA", "--as", "gaussian:0.1", "-o", "*"],
        ["phantom", "*"],
        ["info", "*"],
        ["verify", "*"],
        ["import", "*", "--run", "x", "--network", "unet2d"],
    ],
    ids=" ".join,
)
def test_a_name_that_is_too_long_is_refused_in_one_line(engine, dataset, tmp_path, faults, words):
    given = {"*": tmp_path / ("n" * 256), "DATA": dataset}
    code, out, err = engine(*(given.get(word, word) for word in words))
    assert code in (2, 3, 4, 5)
    assert "This is a bug" not in err
    assert err.count("\n") == 1
    assert out == ""
    faults.handled()


def test_the_locale_does_not_change_what_is_kept_of_a_recipe(dataset, tmp_path):
    recipe = tmp_path / "mine.py"
    shipped = Path(__file__).parents[2] / "recipes" / "unet3d.py"
    recipe.write_text("# für München\n" + shipped.read_text("utf-8"), "utf-8")
    run = tmp_path / "run"
    words = ("fit", recipe, *shrinking(), "steps=1", "--data", dataset, "--run", run)
    assert shell(*STREAMS["C"][:2], *words) == 0
    assert (run / "recipe.py").read_bytes() == recipe.read_bytes()
