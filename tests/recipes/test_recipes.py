import json
import re
from dataclasses import replace

import pytest

from engine.checkpoints import checkpoint
from engine.networks import UNet2D
from engine.recipe.recipe_file import find_recipe, load_recipe
from engine.runs.run import Run
from tests.engine.tiny import shrinking
from volumes import Scanner
from volumes.dataset import find_cases

# Compared with each other: Gaussian noise of 10 % on KiTS19.
VOLUMES = ["convnet3d", "respr_unet3d", "unet3d"]
SLICES = [
    "cnn2", "cnn7", "convnet2d", "dncnn", "dncnn_plain", "resnet2d", "unet2d", "unet2d_residual",
    "unet2d_residual_bn",
]  # fmt: skip
# The exceptions: trained on BSD400 and scored on BSD68; trained and scored on a set of pairs.
PHOTOGRAPHS = ["dncnn_bsd"]
PAIRS = ["cnn4"]
# Blind networks, validated at several levels, on scans that they name.
BLIND = ["ct_denoiser", "gaussian_denoiser"]
# Simulated scanners: trained on scans with fewer photons or fewer views.
SCANNED = [
    "lowdose_dncnn", "lowdose_respr_unet3d", "lowdose_unet2d", "sparseview_dncnn",
    "sparseview_unet2d",
]  # fmt: skip


# Without clean scans, and with the network in the box behind the prior: compared with no other.
ALONE = ["respr_denoiser", "selfsupervised_unet2d"]


@pytest.fixture(params=VOLUMES + SLICES + PHOTOGRAPHS + PAIRS + BLIND + SCANNED + ALONE)
def name(request):
    return request.param


def network_aside(recipe):
    """The recipe with a fixed network: equal for recipes that differ only in the network."""
    return replace(recipe, network=UNet2D())


def test_every_recipe_is_listed_here():
    files = {path.stem for path in find_recipe("unet3d").parent.glob("*.py")}
    assert files - {"__init__"} == {
        *VOLUMES,
        *SLICES,
        *PHOTOGRAPHS,
        *PAIRS,
        *BLIND,
        *SCANNED,
        *ALONE,
    }


@pytest.mark.parametrize("name", VOLUMES + SLICES)
def test_recipes_are_compared_on_the_same_cases_window_and_noise(name):
    recipe, reference = load_recipe(find_recipe(name)), load_recipe(find_recipe("respr_unet3d"))
    assert recipe.split == reference.split
    assert recipe.window == reference.window
    assert recipe.noise == reference.noise


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_0_to_255_under_noise_of_25_grey_values_and_never_clipped(name):
    recipe = load_recipe(find_recipe(name))
    assert recipe.window.hu([0, 1]).tolist() == [0, 255]
    assert not recipe.window.clip
    assert recipe.noise.typical * recipe.window.width_hu == pytest.approx(25)


@pytest.mark.parametrize("name", VOLUMES + SLICES)
def test_every_step_shows_the_network_as_many_voxels(name):
    recipe, reference = load_recipe(find_recipe(name)), load_recipe(find_recipe("respr_unet3d"))
    z, y, x = recipe.crop.shape
    deep, high, wide = reference.crop.shape
    assert recipe.batch * z * y * x == reference.batch * deep * high * wide
    assert recipe.steps == reference.steps


def test_the_rate_of_dncnn_on_photographs_falls_to_a_tenth_after_three_fifths():
    recipe = load_recipe(find_recipe("dncnn_bsd"))
    fall = recipe.steps * 3 // 5  # epoch 30 of 50
    rates = [recipe.learning_rate(step, recipe.steps) for step in (0, fall - 1, fall)]
    assert rates == [1e-3, 1e-3, 1e-4]


def test_the_3d_networks_differ_in_the_prior_alone():
    respr, unet = load_recipe(find_recipe("respr_unet3d")), load_recipe(find_recipe("unet3d"))
    assert (respr.crop, respr.batch, respr.loss) == (unet.crop, unet.batch, unet.loss)
    assert (respr.network.width, respr.network.levels) == (unet.network.width, unet.network.levels)
    assert respr.prior is not None
    assert unet.prior is None


@pytest.mark.parametrize(
    ("name", "other"), [(name, "unet2d") for name in SLICES] + [("convnet3d", "unet3d")]
)
def test_networks_of_slices_and_those_without_a_prior_differ_in_the_network_alone(name, other):
    one, reference = load_recipe(find_recipe(name)), load_recipe(find_recipe(other))
    assert network_aside(one) == network_aside(reference)


@pytest.mark.parametrize("name", SCANNED)
def test_scanned_recipes_share_cases_and_a_window_that_keeps_bone(name):
    recipe, reference = load_recipe(find_recipe(name)), load_recipe(find_recipe("respr_unet3d"))
    assert recipe.split == reference.split
    assert recipe.window == replace(reference.window, clip=False)
    assert recipe.noise.scanner == Scanner()


@pytest.mark.parametrize("kind", ["unet2d", "dncnn"])
def test_low_dose_and_sparse_views_differ_in_the_noise_alone(kind):
    low, sparse = (
        load_recipe(find_recipe(f"lowdose_{kind}")),
        load_recipe(find_recipe(f"sparseview_{kind}")),
    )
    assert replace(low, noise=sparse.noise) == sparse


@pytest.mark.parametrize("noise", ["lowdose", "sparseview"])
def test_the_networks_of_the_study_are_shown_as_many_scanned_slices(noise):
    slices = {
        recipe.batch * recipe.steps / recipe.crop.patches
        for recipe in (load_recipe(find_recipe(f"{noise}_{kind}")) for kind in ("unet2d", "dncnn"))
    }
    assert slices == {50 * 3600}


def test_respr_unet_on_low_dose_differs_from_that_on_white_noise_in_noise_and_window():
    low, white = (
        load_recipe(find_recipe("lowdose_respr_unet3d")),
        load_recipe(find_recipe("respr_unet3d")),
    )
    assert replace(low, noise=white.noise, window=white.window) == white


def test_the_blind_networks_differ_in_noise_width_scales_and_rate_alone():
    ct, white = (load_recipe(find_recipe(name)) for name in BLIND)
    crop, rate = replace(ct.crop, scales=(1.0,)), white.learning_rate
    other = {"noise": white.noise, "network": white.network, "crop": crop, "learning_rate": rate}
    assert replace(ct, **other) == white
    assert ct.noise.kinds[0] == white.noise
    assert ct.noise.range == white.noise.range


def test_the_docstring_counts_the_parameters(cpu, name):
    told = re.search(r"Cost: ([\d,]+) parameters", find_recipe(name).read_text())
    model = load_recipe(find_recipe(name)).network.build()
    assert int(told[1].replace(",", "")) == model.count_params()


def test_the_docstring_names_the_command(name):
    assert f"engine fit {name} " in find_recipe(name).read_text()


def test_a_shipped_recipe_trains_when_it_is_shrunk(
    cpu, engine, dataset, photographs, pairs, tmp_path, name
):
    data = photographs if name in PHOTOGRAPHS else pairs if name in PAIRS else dataset
    code, out, _ = engine(
        "fit", name, *shrinking(name), "--steps", "2", "--data", data, "--run", tmp_path / name
    )  # fmt: skip
    assert code == 0
    assert out == f"{tmp_path / name}\n"
    run = Run(tmp_path / name)
    assert checkpoint.steps(run.checkpoints) == [2]
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]
    assert all(0 < row["loss"] < 10 for row in rows if "loss" in row)


def test_the_test_pairs_that_a_set_declares_choose_no_weights(pairs):
    split = replace(load_recipe(find_recipe("cnn4")).split, validation=2)
    sides = split.assign(pairs, find_cases(pairs))
    assert [case.name for case in sides["test"]] == ["test_00000", "test_00001"]
    assert len(sides["training"]) == 3
    assert all(case.name.startswith("train") for case in sides["validation"])
