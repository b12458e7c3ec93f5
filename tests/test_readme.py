"""What the pages show: commands that the command line knows, Python that runs, figures of cards."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from engine import __version__
from engine.checkpoints import checkpoint
from engine.denoising.network_choice import SCANNER, WHITE
from engine.diagnostics.card import make_card
from engine.diagnostics.card_text import renewed, required
from engine.recipe.shipped_networks import folder_of, shipped_names
from engine.runs.run import named_run
from tests.engine.tiny import shrinking
from tests.engine.undrawn import leave_out_pictures
from volumes import nifti
from volumes.phantoms.abdomen import abdomen
from volumes.storage.digest import sha256

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *(ROOT / room / "README.md" for room in ("engine", "recipes", "volumes")),
         ROOT / "recipes" / "weights" / "README.md", ROOT / "CONTRIBUTING.md"]  # fmt: skip
SMALLER = {
    "cases=8": "cases=8, shape=(12, 48, 48)",
    "crop.shape=16,64,64": 'crop.shape=8,16,16", "network.width=2", "network.levels=2',
    "steps=200": "steps=2",
}


def commands(page):
    """The lines of shell in a page that call `engine`, each as a list of words."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    calls = [call.strip() for line in lines for call in line.split(" && ")]
    found = [shlex.split(call, comments=True) for call in calls if not call.startswith("#")]
    return [words[1:] for words in found if words and Path(words[0]).name == "engine"]


def parse(words):
    """Parses a command as the command line does, without running it."""
    import typer

    import engine.cli.main as main

    command = typer.main.get_command(main.app).commands[words[0]]
    command.make_context(words[0], words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_command_line_knows_every_command_and_option_of_a_page(page):
    for words in commands(page):
        parse(words)


def test_the_commands_of_the_pages_are_found():
    assert ["doctor"] in commands(README)
    assert len(commands(README)) > 12
    assert len([words for page in PAGES for words in commands(page)]) > 30


@pytest.mark.parametrize("line", ["fit unet3d --bogus", "frobnicate", "denoise scan.nii --steps 3"])
def test_a_command_that_does_not_exist_is_noticed(line):
    with pytest.raises(Exception, match=r"No such option|frobnicate"):
        parse(line.split())


ELSEWHERE = [["doctor"], ["fit", "respr_unet3d", "--demo"]]  # tests of their own run these
FEWER = {"200000": "8"}  # steps


@pytest.fixture
def reader(cpu, tmp_path, monkeypatch):
    """The folder of a reader: phantoms in place of scans, and a run that was trained before."""

    def cases(folder, count, first):
        for i in range(count):
            hu, spacing_mm = abdomen((12, 48, 48), rng=np.random.default_rng(first + i))
            case = tmp_path / folder / f"case_{i:05d}"
            case.mkdir(parents=True)
            nifti.write_hu(case / "imaging.nii.gz", hu, spacing_mm)

    cases("kits19", 7, first=0)
    cases("mine", 7, first=20)
    cases("scans", 2, first=40)
    hu, spacing_mm = abdomen((12, 48, 48), rng=np.random.default_rng(60))
    noisy = hu + np.random.default_rng(0).normal(0, 20, hu.shape)
    nifti.write_hu(tmp_path / "scan.nii.gz", np.rint(noisy).astype(np.int16), spacing_mm)
    monkeypatch.chdir(tmp_path)


def smaller(words):
    """The same command in less time: a training of a recipe shrinks its network and its steps."""
    words = [FEWER.get(word, word) for word in words]
    if words[0] != "fit" or not (ROOT / "recipes" / f"{words[1]}.py").is_file():
        return words
    split = [word for word in shrinking(words[1]) if not word.startswith("split.")]
    return [*words, *split]


def test_every_command_of_the_readme_runs_one_after_the_other(reader, engine, monkeypatch):
    leave_out_pictures(monkeypatch)
    lines = [words for words in commands(README) if words not in ELSEWHERE]
    assert len(lines) == len(commands(README)) - len(ELSEWHERE)
    before = ["fit", "unet3d", "--data", "kits19/"]  # a run that the last command compares
    for words in (smaller(before), *map(smaller, lines)):
        code, _, err = engine(*words)
        assert code == 0, (words, err)
    made = ("scan_denoised.nii.gz", "scan.png", "less_noise.nii.gz", "runs/mine/run.json",
            "out/case_00001_slice.png", "report/report.html")  # fmt: skip
    assert [name for name in made if not Path(name).is_file()] == []


def test_the_example_of_python_runs(cpu, tmp_path, monkeypatch, phantom_hu):
    (code,) = re.findall(r"<!-- python -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 8
    for own, small in SMALLER.items():
        assert code.count(own) == 1
        code = code.replace(own, small)
    monkeypatch.chdir(tmp_path)
    noisy = phantom_hu + np.random.default_rng(0).normal(0, 140, phantom_hu.shape)
    found = {"noisy_hu": np.rint(noisy).astype(np.int16)}
    exec(code, found)
    assert found["trained"].run == Path("runs/respr_unet3d")
    assert found["denoised_hu"].shape == phantom_hu.shape


@pytest.mark.parametrize("page", [README, ROOT / "recipes" / "README.md"], ids=["short", "whole"])
def test_the_cards_in_a_page_are_those_that_ship(page):
    text = page.read_text()
    assert renewed(text) == text
    for name in shipped_names():
        assert re.search(rf"<!-- (card|scores) of ([\w ]+ )?{name}\b", text)


@pytest.mark.parametrize("name", shipped_names())
def test_the_card_of_a_network_is_of_the_weights_and_the_recipe_that_ship(name):
    card, anew = required(name), make_card(named_run(name), "best", [])
    (weights,) = folder_of(name).glob("checkpoints/step-*")
    assert card["sha256"] == checkpoint.fingerprint(weights)
    assert card == anew | {part: card[part] for part in ("tables", "remarks", "picture_sha256")}
    assert card["picture_sha256"] == sha256(folder_of(name) / "card.png")
    kinds = {"psnr", "hu bias"}
    if name in (WHITE, SCANNER):  # which `denoise` chooses for scans of any kind
        kinds |= {"rmse", "characteristics"}
    assert {table["kind"] for table in card["tables"]} >= kinds


def test_the_citation_is_of_this_version_and_names_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__
    assert cited["license"] == "Apache-2.0"
    (paper,) = cited["references"]
    assert paper["authors"][0]["family-names"] == "Abascal"
    assert paper["title"] == "A residual U-Net network with image prior for 3D image denoising"
