import json
import re

import pytest

from engine import checkpoint
from engine.recipe import find, load
from engine.run import Run
from tests.engine.tiny import shrinking

SHIPPED = ["dncnn", "respr_unet3d", "unet2d", "unet3d"]


@pytest.fixture(params=SHIPPED)
def name(request):
    return request.param


def test_every_file_in_recipes_is_known_here():
    files = {path.stem for path in find("unet3d").parent.glob("*.py")}
    assert files - {"__init__"} == set(SHIPPED)


def test_recipes_are_compared_on_the_same_cases_window_and_noise(name):
    recipe, reference = load(find(name)), load(find("respr_unet3d"))
    assert recipe.split == reference.split
    assert recipe.window == reference.window
    assert recipe.noise == reference.noise


def test_every_step_shows_the_network_as_many_voxels(name):
    recipe, reference = load(find(name)), load(find("respr_unet3d"))
    z, y, x = recipe.crop.shape
    deep, high, wide = reference.crop.shape
    assert recipe.batch * z * y * x == reference.batch * deep * high * wide
    assert recipe.steps == reference.steps


def test_the_3d_networks_differ_in_the_prior_alone():
    respr, unet = load(find("respr_unet3d")), load(find("unet3d"))
    assert (respr.crop, respr.batch, respr.loss) == (unet.crop, unet.batch, unet.loss)
    assert (respr.network.width, respr.network.levels) == (unet.network.width, unet.network.levels)
    assert respr.prior is not None
    assert unet.prior is None


def test_the_2d_networks_differ_in_the_network_alone():
    unet, dncnn = load(find("unet2d")), load(find("dncnn"))
    assert (unet.crop, unet.batch, unet.loss) == (dncnn.crop, dncnn.batch, dncnn.loss)


def test_the_docstring_counts_the_parameters(cpu, name):
    told = re.search(r"Cost: ([\d,]+) parameters", find(name).read_text())
    model = load(find(name)).network.build()
    assert int(told[1].replace(",", "")) == model.count_params()


def test_the_docstring_names_the_command(name):
    assert f"engine fit {name} " in find(name).read_text()


def test_a_shipped_recipe_trains_when_it_is_shrunk(cpu, engine, dataset, tmp_path, name):
    code, out, _ = engine(
        "fit", name, *shrinking(name), "--steps", "2", "--data", dataset, "--run", tmp_path / name
    )  # fmt: skip
    assert code == 0
    assert out == f"{tmp_path / name}\n"
    run = Run(tmp_path / name)
    assert checkpoint.steps(run.checkpoints) == [2]
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]
    assert all(0 < row["loss"] < 10 for row in rows if "loss" in row)
