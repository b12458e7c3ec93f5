import json
from pathlib import Path

import pytest

from engine.errors import BadUsage, Mismatch
from engine.recipe import foreign_parts
from engine.recipe.overrides import override
from engine.recipe.recipe_file import load_recipe
from engine.recipe.serialization import (
    differences,
    fingerprint,
    plain,
    refuse_unsaved,
    to_json,
)
from tests.engine.tiny import from_json

HEAD = """
from dataclasses import dataclass, replace
from engine import losses
from engine.networks import Network, UNet2D
from engine.recipe import Metric
from engine.recipe.recipe_file import find_recipe, load_recipe
from volumes import Gaussian, NeighbourMean
from volumes.sampling.prior_sources import Source
recipe = load_recipe(find_recipe("unet2d"))
"""

NETWORK = """
@dataclass(frozen=True)
class Mine(Network):
    width: int = 8
    stride = (1, 1, 1)
    radius = (0, 1, 1)
    def build(self, *, precision="float32", seed=0): ...
recipe = replace(recipe, network=Mine(4))
"""
LOSS = """
def loss(clean, estimate): ...
recipe = replace(recipe, loss=loss)
"""
SCHEDULE = """
@dataclass(frozen=True)
class Halved:
    rate: float
    def __call__(self, step, steps):
        return self.rate / 2
recipe = replace(recipe, learning_rate=Halved(1e-3))
"""
NOISE = """
@dataclass(frozen=True)
class Louder(Gaussian):
    factor: float = 2.0
recipe = replace(recipe, noise=Louder(0.1, 3.0))
"""
PRIOR = """
@dataclass(frozen=True)
class Doubled(Source):
    times: int = 2
    def image(self, clean, noisy, sigma):
        return self.times * noisy
@dataclass(frozen=True)
class Seeing(UNet2D):
    sees_prior = True
recipe = replace(recipe, prior=NeighbourMean(of=Doubled(3)), network=Seeing(4))
"""
METRIC = """
def worst(clean, estimate):
    return abs(clean - estimate).max()
recipe = replace(recipe, best_by=Metric(worst, larger_is_better=False))
"""


def loaded(folder: Path, text: str, head: str = HEAD):
    path = folder / "mine.py"
    path.write_text(head + text)
    return load_recipe(path)


@pytest.mark.parametrize(
    ("text", "kind"),
    [(NETWORK, "recipe.py:Mine"), (LOSS, "recipe.py:loss"), (SCHEDULE, "recipe.py:Halved"),
     (NOISE, "recipe.py:Louder"), (PRIOR, "recipe.py:Doubled"), (METRIC, "recipe.py:worst")],
    ids=["network", "loss", "schedule", "noise", "prior", "metric"],
)  # fmt: skip
def test_every_part_of_a_recipe_s_file_survives_json(tmp_path, text, kind):
    recipe = loaded(tmp_path, text)
    refuse_unsaved(recipe)
    path = tmp_path / "recipe.json"
    path.write_text(to_json(recipe))
    assert f'"kind": "{kind}"' in path.read_text()
    code = foreign_parts.code_behind(recipe)
    assert from_json(path, code) == recipe
    with pytest.raises(Mismatch, match=f"{kind} is no part of the engine"):
        from_json(path)


@pytest.mark.parametrize(
    ("text", "assignment", "field"),
    [(NETWORK, "network.width=5", "network.width: 4 -> 5"),
     (SCHEDULE, "learning_rate.rate=0.5", "learning_rate.rate: 0.001 -> 0.5"),
     (NOISE, "noise.factor=9", "noise.factor: 3.0 -> 9.0"),
     (PRIOR, "prior.of.times=7", "prior.of.times: 3 -> 7")],
    ids=["network", "schedule", "noise", "prior"],
)  # fmt: skip
def test_fields_of_own_parts_are_overridden(tmp_path, text, assignment, field):
    recipe = loaded(tmp_path, text)
    assert differences(recipe, override(recipe, [assignment])) == [field]


def test_own_parts_give_way_to_the_engine_s_on_the_command_line(tmp_path):
    recipe = loaded(tmp_path, LOSS + SCHEDULE + METRIC)
    words = ["loss=mean_absolute_error", "learning_rate=1e-4", "best_by=ssim"]
    changed = override(recipe, words)
    assert foreign_parts.code_behind(changed) is None
    assert "code" not in json.loads(to_json(changed))


def test_a_comment_is_another_fingerprint_but_no_difference(tmp_path):
    one, other = loaded(tmp_path, LOSS), loaded(tmp_path, LOSS + "# why\n")
    assert differences(one, other) == []
    assert fingerprint(one) != fingerprint(other)


def test_the_name_of_a_class_of_the_engine_does_not_stand_for_it(tmp_path):
    text = NETWORK.replace("class Mine", "class UNet3D").replace("Mine(4)", "UNet3D(4)")
    recipe = loaded(tmp_path, text)
    assert plain(recipe)["network"]["kind"] == "recipe.py:UNet3D"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("recipe = replace(recipe, loss=lambda clean, estimate: 0)", r"<lambda> of .*mine\.py is"),
        (NETWORK.replace("frozen=True", "eq=True"), "Mine can be changed"),
        (NETWORK.replace("@dataclass(frozen=True)", ""), "mine.py: fails with TypeError"),
        (NETWORK.replace("@dataclass(frozen=True)", "").replace("Mine(4)", "Mine()"),
         "cannot keep a Mine as JSON. Use .* frozen dataclasses"),
        (NETWORK.replace("    radius = (0, 1, 1)\n", ""), "abstract method.* radius"),
        (NETWORK.replace("(Network)", "").replace("    radius = (0, 1, 1)\n", ""),
         "network: Mine has no radius, sees_prior, sees_dose, bytes_per_voxel"),
        (NETWORK.replace("Mine(4)", "Mine(4.5)"), "Mine.width cannot be '4.5'"),
        (NETWORK.replace("Mine(4)", "Mine([4])"), "cannot keep a list as JSON"),
        (NETWORK.replace("Mine(4)", "UNet2D"), r"network is the class UNet2D: write UNet2D\(\)"),
        (NOISE.replace("(Gaussian)", "").replace("Louder(0.1, 3.0)", "Louder(3.0)"),
         "noise: Louder inherits from none of AdditiveNoise"),
        (METRIC.replace("Metric(worst, larger_is_better=False)", "worst"), "best_by must be psnr"),
    ],
)  # fmt: skip
def test_a_part_that_cannot_be_kept_is_refused_by_its_name(tmp_path, text, cause):
    with pytest.raises(BadUsage, match=cause):
        refuse_unsaved(loaded(tmp_path, text))


def test_parts_of_two_recipes_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    loaded(tmp_path / "other", LOSS)
    text = f"""
from pathlib import Path
other = load_recipe(Path({str(tmp_path / "other" / "mine.py")!r}))
recipe = replace(recipe, loss=other.loss)
"""
    with pytest.raises(BadUsage, match="has parts of two recipes"):
        refuse_unsaved(loaded(tmp_path, NETWORK + text))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that registers one of its two networks."""
    site = tmp_path / "site"
    about = site / "my_lab-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[respr_engine.parts]\nmine = my_lab_parts:Mine\n")
    (site / "my_lab_parts.py").write_text(
        "from dataclasses import dataclass\nfrom engine.networks import Network\n"
        + NETWORK.partition("recipe =")[0]
        + "@dataclass(frozen=True)\nclass Hidden(Mine):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(site))


def test_a_part_that_an_installed_package_registers_is_found_by_its_module(tmp_path, package):
    text = "from my_lab_parts import Mine\nrecipe = replace(recipe, network=Mine(4))"
    recipe = loaded(tmp_path, text)
    refuse_unsaved(recipe)
    path = tmp_path / "recipe.json"
    path.write_text(to_json(recipe))
    content = json.loads(path.read_text())
    assert (content["network"]["kind"], "code" in content) == ("my_lab_parts:Mine", False)
    assert from_json(path) == recipe
    assert foreign_parts.is_foreign(type(recipe.network))


def test_a_part_that_an_installed_package_does_not_register_is_refused(tmp_path, package):
    text = "from my_lab_parts import Hidden\nrecipe = replace(recipe, network=Hidden(4))"
    with pytest.raises(BadUsage, match=r"Hidden of my_lab_parts is unknown .* respr_engine\.parts"):
        refuse_unsaved(loaded(tmp_path, text))


def test_json_imports_no_module_that_is_not_registered(tmp_path, package):
    recipe = loaded(tmp_path, "")
    path = tmp_path / "recipe.json"
    for kind in ("my_lab_parts:Hidden", "os:system", "my_lab_parts.Mine"):
        content = plain(recipe) | {"loss": {"kind": kind}}
        path.write_text(json.dumps(content))
        with pytest.raises(Mismatch, match="is no part of the engine"):
            from_json(path)
