"""A recipe with parts of its own: the example of recipes/README.md, as a user would use it."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.runs.run import Run
from tests.engine.tiny import voxels
from tests.gates.trainings import Aim, ended, start
from tests.training import rows

TINY = (
    "network.width=2", "network.levels=2", "crop.shape=8,16,16", "batch=2", "steps=6",
    "validate_every=3", "checkpoint_every=2", "validate_slices=4", "split.validation=1",
    "split.test=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def example() -> str:
    """The example of the page, from its first line to its last."""
    page = (Path(__file__).parents[2] / "recipes" / "README.md").read_text()
    (found,) = re.findall(r'```python\n("""ResPr-UNet with attention gates.*?)```', page, re.DOTALL)
    return found


@pytest.fixture(scope="module")
def place(dataset: Path, example: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example, which has trained undisturbed in `whole`.

    It trains in a process of its own: its code has not run in this one.
    """
    folder = tmp_path_factory.mktemp("own") / "place"
    folder.mkdir()
    (folder / "gated.py").write_text(example)
    fit(folder, dataset, "whole")
    return folder


def words(folder: Path, dataset: Path, run: str) -> list[str]:
    return [str(folder / "gated.py"), *TINY, "--data", str(dataset), "--run", str(folder / run)]


def fit(folder: Path, dataset: Path, run: str, aim: Aim | None = None) -> None:
    cache = Path(os.environ["ENGINE_CACHE"])
    code = ended(start(words(folder, dataset, run), cache, folder / "said", aim))
    said = (folder / "said").read_text()
    assert code == (-9 if aim else 0), said
    assert "Running the Python code of" in said


def copied(place: Path, folder: Path) -> Path:
    """The run as another person gets it, without the recipe's file."""
    shutil.copytree(place / "whole", folder)
    return folder


def scan(dataset: Path) -> Path:
    return dataset / "case_00000" / "imaging.nii.gz"


def test_the_example_resumes_to_the_bit_after_it_was_killed(place, dataset):
    fit(place, dataset, "killed", Aim("rename into place", skip=1))
    killed, whole = Run(place / "killed"), Run(place / "whole")
    assert [path.name for path in killed.checkpoints.glob("step-*")] == ["step-00000002"]
    fit(place, dataset, "killed")
    from engine.checkpoints import checkpoint

    prints = [checkpoint.fingerprint(run.checkpoint("last")) for run in (killed, whole)]
    assert prints[0] == prints[1]
    assert rows(killed.folder) == rows(whole.folder)


def test_the_run_names_its_parts_and_chooses_the_best_by_ssim(place):
    fields = Run(place / "whole").fields()
    assert fields["network"] == {"kind": "recipe.py:GatedUNet", "width": 2, "levels": 2}
    assert fields["loss"] == {"kind": "recipe.py:charbonnier_and_ssim"}
    assert list(fields["code"]) == ["recipe.py"]
    scored = [row for row in rows(place / "whole") if row.get("method") == "network"]
    best = max(scored, key=lambda row: row["mean"]["ssim"])["step"]
    assert (
        best
        == json.loads((Run(place / "whole").checkpoint("last") / "state.json").read_text())[
            "best_step"
        ]
    )


def test_what_a_received_run_is_made_of_is_told_without_running_it(engine, place, tmp_path):
    run = copied(place, tmp_path / "run")
    code, out, err = engine("info", run)
    assert (code, err) == (0, "")
    assert "recipe.py:GatedUNet(width=2, levels=2)" in out
    assert Run(run).fields()["code"]["recipe.py"] in out


def test_a_received_run_is_refused_until_the_user_asks(engine, place, dataset, tmp_path):
    run, out = copied(place, tmp_path / "run"), tmp_path / "out.nii.gz"
    sha256 = Run(run).fields()["code"]["recipe.py"]
    data = ["--data", dataset]
    commands = [
        ["denoise", scan(dataset), "-m", run, "-o", out],
        ["denoise", scan(dataset), "-m", run, "--plan"],
        ["evaluate", "noisy", run, *data, "-o", tmp_path / "report"],
        ["evaluate", f"spade@{run}", *data, "-o", tmp_path / "report"],
        ["fit", run, *data],
        ["fit", run, *data, "--dry-run"],
        ["fit", "unet3d", *TINY, "--from", run, *data, "--run", tmp_path / "b"],
        ["fit", "respr_unet3d", *TINY, f"prior={run}", *data, "--run", tmp_path / "b"],
        ["import", run, "--run", tmp_path / "b"],
    ]
    for command in commands:
        code, said, err = engine(*command)
        last = err.splitlines()[-1]
        assert (code, said) == (5, ""), err
        assert last.startswith(f"engine: error: {run}/code/")
        assert f"recipe.py: is code that the run needs (sha256 {sha256})" in last
        assert last.endswith("Read it, and add --run-code if you trust it.")
    assert not list(tmp_path.glob("[!r]*"))

    # From here on the code runs in this process.
    code, said, err = engine("denoise", scan(dataset), "-m", run, "-o", out, "--run-code")
    assert (code, out.exists()) == (0, True), err
    assert np.ptp(voxels(out)) > 0
    code, said, err = engine("verify", out, "--input", scan(dataset), "-m", run, "--again",
                             "--run-code")  # fmt: skip
    assert code == 0, err
    assert "the same voxels, bit for bit" in said


def test_the_recipe_s_file_says_what_a_dry_run_would_cost(engine, place, dataset, tmp_path):
    code, out, err = engine("fit", place / "gated.py", *TINY, "--data", dataset, "--dry-run",
                            "--run", tmp_path / "run")  # fmt: skip
    assert code == 0, err
    assert "network           GatedUNet(width=2, levels=2)" in out
    assert "warning" not in err
    assert not (tmp_path / "run").exists()


def test_two_runs_of_one_class_name_are_compared(engine, place, dataset, tmp_path):
    """Their files define different networks under the same names."""
    (tmp_path / "gated.py").write_text(
        (place / "gated.py").read_text().replace("self.width * 2**level", "3 * self.width")
    )
    other = [tmp_path / "gated.py", *TINY, "--data", dataset, "--run", tmp_path / "other", "-q"]
    assert engine("fit", *other)[0] == 0
    methods = ["noisy", copied(place, tmp_path / "one"), tmp_path / "other"]
    report = ["--data", dataset, "--run-code", "-o", tmp_path / "report", "-q"]
    code, out, err = engine("evaluate", *methods, *report)
    assert code == 0, err
    assert re.search(r"\bone\b.*\d", out)
    assert re.search(r"\bother\b.*\d", out)


def test_a_part_that_fails_is_named_with_its_file(engine, place, dataset, tmp_path):
    text = (place / "gated.py").read_text().replace("return 0.8 * error", "return nonsense")
    (tmp_path / "gated.py").write_text(text)
    code, _, err = engine("fit", tmp_path / "gated.py", *TINY, "--data", dataset, "--run",
                          tmp_path / "run", "-q")  # fmt: skip
    assert code == 2
    assert err.splitlines()[-1].startswith(f"engine: error: {tmp_path / 'gated.py'}: fails with ")
    assert "nonsense" in err
