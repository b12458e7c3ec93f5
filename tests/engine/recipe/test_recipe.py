import hashlib
import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from engine import losses, networks, objectives, schedules
from engine.errors import BadUsage, Mismatch
from engine.recipe import summary
from engine.recipe.overrides import override
from engine.recipe.recipe import Recipe
from engine.recipe.recipe_file import find_recipe, foreign, load_recipe
from engine.recipe.serialization import (
    differences,
    fingerprint,
    to_json,
)
from tests.engine.tiny import from_json, tiny
from volumes import Coloured, Crop, Gaussian, Mixed, NeighbourMean, Split, Window

SHIPPED = [
    "cnn2", "cnn4", "cnn7", "convnet2d", "convnet3d", "ct_denoiser", "dncnn", "dncnn_bsd",
    "dncnn_plain", "gaussian_denoiser", "lowdose_dncnn", "lowdose_respr_unet3d", "lowdose_unet2d",
    "resnet2d", "respr_denoiser", "respr_unet3d", "selfsupervised_unet2d", "sparseview_dncnn",
    "sparseview_unet2d", "unet2d", "unet2d_residual", "unet2d_residual_bn", "unet3d",
]  # fmt: skip


@pytest.fixture
def recipe():
    return load_recipe(find_recipe("respr_unet3d"))


@pytest.fixture
def saved(tmp_path, recipe):
    """Writes a recipe's JSON after a change of its content."""

    def write(change=lambda content: None):
        content = json.loads(to_json(recipe))
        change(content)
        path = tmp_path / "recipe.json"
        path.write_text(json.dumps(content))
        return path

    return write


# -- Overriding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("batch=7", lambda r: (r.batch, 7)),
        ("clip_norm=0.5", lambda r: (r.clip_norm, 0.5)),
        ("crop.shape=16,64,32", lambda r: (r.crop.shape, (16, 64, 32))),
        ("crop.central=0.5", lambda r: (r.crop.central, 0.5)),
        ("crop.flips=false", lambda r: (r.crop.flips, False)),
        ("crop.flips=TRUE", lambda r: (r.crop.flips, True)),
        ("window.clip=false", lambda r: (r.window.clip, False)),
        ("window.low_hu=-1024", lambda r: (r.window.low_hu, -1024.0)),
        ("network.width=8", lambda r: (r.network.width, 8)),
        ("accumulate=4", lambda r: (r.accumulate, 4)),
        ("accumulate=4", lambda r: (r.examples_per_step, 4 * r.batch)),
        ("weight_decay=0.01", lambda r: (r.weight_decay, 0.01)),
        ("patience=5", lambda r: (r.patience, 5)),
        ("loss=0.8*l1+0.2*ssim", lambda r: (r.loss, 0.8 * losses.l1 + 0.2 * losses.ssim)),
        ("noise.sigma=0.05", lambda r: (r.noise.sigma, 0.05)),
        ("noise=gaussian:0.05", lambda r: (r.noise, Gaussian(0.05))),
        ("noise=coloured:0.05/0.6/0.25", lambda r: (r.noise, Coloured(0.05, 0.6, 0.25))),
        ("noise.sigma=0.02,0.1", lambda r: (r.noise.sigma, (0.02, 0.1))),
        ("prior.radius=2", lambda r: (r.prior.radius, 2)),
        ("split.validation=3", lambda r: (r.split.validation, 3)),
        ("split.validation=a,b", lambda r: (r.split.validation, ("a", "b"))),
        ("split.test=case_00001", lambda r: (r.split.test, ("case_00001",))),
        ("split.patient=(p\\d+)=", lambda r: (r.split.patient, "(p\\d+)=")),
        ("learning_rate=3e-4", lambda r: (r.learning_rate, schedules.Constant(3e-4))),
        ("learning_rate.rate=3e-4", lambda r: (r.learning_rate, schedules.Constant(3e-4))),
        (
            "learning_rate=cosine:1e-3,1e-5",
            lambda r: (r.learning_rate, schedules.Cosine(1e-3, 1e-5)),
        ),
        (
            "learning_rate=piecewise:0=1e-3,9=1e-4",
            lambda r: (r.learning_rate, schedules.Piecewise(((0, 1e-3), (9, 1e-4)))),
        ),
        ("loss=mean_absolute_error", lambda r: (r.loss, losses.mean_absolute_error)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_kind_of_field_can_be_overridden(recipe, assignment, value):
    found, wanted = value(override(recipe, [assignment]))
    assert found == wanted
    assert type(found) is type(wanted)


def test_an_override_changes_nothing_else(recipe):
    assert differences(recipe, override(recipe, ["network.width=8"])) == ["network.width: 32 -> 8"]


def test_of_two_overrides_the_last_one_counts(recipe):
    assert override(recipe, ["batch=4", "batch=6"]).batch == 6


def test_the_recipe_itself_stays_as_it_was(recipe):
    override(recipe, ["batch=7"])
    assert recipe.batch == 2


@pytest.mark.parametrize(
    ("assignment", "remedy"),
    [
        ("batsh=2", "Did you mean batch?"),
        ("crop.shap=1,2,3", "Did you mean shape?"),
        ("netwrok.width=2", "Did you mean network?"),
        ("noise.qqq=2", "Known here: sigma, spread"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_one(recipe, assignment, remedy):
    with pytest.raises(BadUsage) as refused:
        override(recipe, [assignment])
    assert refused.value.path == assignment.split("=")[0]
    assert refused.value.remedy == remedy


@pytest.mark.parametrize(
    "assignment",
    [
        "batch=two", "batch=2.5", "batch=", "clip_norm=much", "crop.shape=16,64",
        "crop.shape=16,64,64,64", "crop.shape=16,64,x", "crop.flips=maybe", "crop.flips=1",
        "noise.sigma=loud", "noise=gaussian:x", "noise=white:0.1", "noise.sigma=0.1,0.2,0.3",
        "learning_rate=fast", "learning_rate=linear:1", "loss=mean_cubed_error", "network=UNet3D",
        "crop=1,2,3", "prior=none", "batch.size=2", "loss.name=x",
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_refused(recipe, assignment):
    with pytest.raises(BadUsage) as refused:
        override(recipe, [assignment])
    assert assignment.split("=")[0] in str(refused.value)


@pytest.mark.parametrize(
    ("assignment", "cause"),
    [
        ("batch=0", "batch must be at least 1, not 0"),
        ("steps=-5", "steps must be at least 1, not -5"),
        ("validate_every=0", "validate_every must be at least 1"),
        ("checkpoint_every=0", "checkpoint_every must be at least 1"),
        ("validate_slices=0", "validate_slices must be at least 1"),
        ("seed=-1", "seed must not be negative"),
        ("weight_decay=nan", "weight_decay must be finite and not negative"),
        ("clip_norm=nan", "clip_norm must be finite and not negative"),
        ("prior.decay=inf", "must be finite and not negative"),
        ("crop.shape=30,256,256", "must be a multiple of the network's stride"),
        ("crop.central=0", "crop.central must lie in"),
        ("noise.sigma=-0.1", "noise.sigma must be positive"),
        ("noise.sigma=0.2,0.1", "noise.sigma must be positive"),
        ("window.low_hu=400", "must lie below"),
        ("prior.radius=-1", "must lie in [0, 128]"),
        ("network.width=0", "must be positive"),
        ("learning_rate=0", "must be positive"),
    ],
)
def test_an_impossible_value_is_refused_with_what_is_wrong(recipe, assignment, cause):
    with pytest.raises(BadUsage) as refused:
        override(recipe, [assignment])
    assert cause in refused.value.cause


def test_a_word_without_an_equals_sign_is_no_override(recipe):
    with pytest.raises(BadUsage, match="is no override"):
        override(recipe, ["batch"])


@pytest.mark.parametrize("assignment", ["batsh=2", "batch=two", "crop.shape=30,256,256", "batch"])
def test_the_command_line_ends_with_2_on_a_bad_override(engine, tmp_path, assignment):
    code, out, err = engine("fit", "respr_unet3d", assignment, "--run", tmp_path / "run")
    assert (code, out) == (2, "")
    assert err.startswith("engine: error: ")
    assert not (tmp_path / "run").exists()


# -- What a recipe refuses to be -------------------------------------------------------------------


def fields(**changes):
    return {
        "split": Split(1, 1), "window": Window(), "crop": Crop((8, 16, 16)), "noise": Gaussian(),
        "network": networks.UNet3D(2, 2), "loss": losses.mean_squared_error,
        "learning_rate": schedules.constant(1e-4), "batch": 2, "steps": 4, **changes,
    }  # fmt: skip


def test_a_network_that_sees_a_prior_needs_one():
    with pytest.raises(ValueError, match="ResPrUNet sees a prior"):
        Recipe(**fields(network=networks.ResPrUNet(2, 2)))


def test_a_prior_needs_a_network_that_sees_it():
    with pytest.raises(ValueError, match="UNet3D sees no prior"):
        Recipe(**fields(prior=NeighbourMean()))


@pytest.mark.parametrize("shape", [(6, 16, 16), (8, 18, 16), (8, 16, 15)])
def test_a_crop_must_be_a_multiple_of_the_stride(shape):
    with pytest.raises(ValueError, match="multiple of the network's stride"):
        Recipe(**fields(crop=Crop(shape), network=networks.UNet3D(2, 3)))


def test_a_slice_may_be_the_crop_of_a_2d_network():
    recipe = Recipe(**fields(crop=Crop((1, 16, 16)), network=networks.UNet2D(2, 3)))
    assert recipe.crop.shape == (1, 16, 16)


# -- Files -----------------------------------------------------------------------------------------


def test_a_network_is_given_no_value_that_training_never_shows():
    image = np.float32([-50, -1, 0, 0.5, 1.2, 50])
    clipped = tiny("unet3d")
    low, high = clipped.noise.bounds
    assert clipped.seen(image).tolist() == np.clip(image, low, high).tolist()
    open_ended = replace(clipped, window=Window(clip=False))
    assert open_ended.seen(image).tolist() == np.float32([low, low, 0, 0.5, 1.2, 10]).tolist()


def test_a_shipped_recipe_is_found_by_its_name():
    assert find_recipe("unet3d").name == "unet3d.py"


def test_a_recipe_is_found_by_its_path(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(find_recipe("unet3d").read_text())
    assert find_recipe(str(mine)) == mine


def test_an_unknown_recipe_is_refused_with_the_nearest_name():
    with pytest.raises(BadUsage, match=r"unet3e: is no recipe\. Did you mean unet3d\?"):
        find_recipe("unet3e")


def test_an_unknown_recipe_like_no_other_is_refused_with_all_names():
    with pytest.raises(BadUsage, match=", ".join(SHIPPED)):
        find_recipe("xxxxxxxxxx")


def test_only_recipes_from_elsewhere_are_foreign(tmp_path):
    assert foreign(tmp_path / "unet3d.py")
    assert not foreign(find_recipe("unet3d"))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("recipe = (", "SyntaxError"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError"),
        ("", "defines no engine.Recipe"),
        ("recipe = 5", "defines no engine.Recipe"),
    ],
)
def test_a_recipe_that_fails_is_refused_with_what_it_said(tmp_path, text, cause):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(BadUsage) as refused:
        load_recipe(path)
    assert refused.value.path == str(path)
    assert cause in refused.value.cause


# -- JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_survives_json(tmp_path, name):
    recipe = load_recipe(find_recipe(name))
    path = tmp_path / "recipe.json"
    path.write_text(to_json(recipe))
    assert from_json(path) == recipe


@pytest.mark.parametrize(
    "assignment",
    [
        "noise.sigma=0.02,0.1", "split.validation=a,b", "learning_rate=cosine:1e-3,1e-5",
        "learning_rate=piecewise:0=1e-3,30=1e-4", "learning_rate=warm_up:9+1e-3",
        "average=0.99", "validate_at=0.02,0.1", "noise.spread=log",
        "loss=mean_absolute_error", "loss=0.8*l1+0.2*ssim", "window.clip=false",
        "accumulate=4", "weight_decay=0.01", "patience=5",
    ],
)  # fmt: skip
def test_an_overridden_recipe_survives_json(tmp_path, recipe, assignment):
    changed = override(recipe, [assignment])
    path = tmp_path / "recipe.json"
    path.write_text(to_json(changed))
    assert from_json(path) == changed
    assert from_json(path) != recipe


def test_noise_of_several_kinds_survives_json(tmp_path):
    recipe = Recipe(**fields(noise=Mixed((Gaussian(0.1), Coloured((0.02, 0.1))), (3.0, 1.0))))
    path = tmp_path / "recipe.json"
    path.write_text(to_json(recipe))
    assert from_json(path) == recipe


def test_a_field_that_is_new_leaves_the_fingerprint_of_old_recipes_alone(tmp_path, recipe):
    old = json.loads(to_json(recipe))
    for field in (
        "average", "validate_at", "best_by", "objective", "weight_decay", "accumulate", "patience",
    ):  # fmt: skip
        del old[field]
    del old["noise"]["spread"]
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(old))
    assert from_json(path) == recipe
    was = hashlib.sha256(json.dumps(old, sort_keys=True).encode()).hexdigest()
    assert fingerprint(recipe) == was
    assert fingerprint(override(recipe, ["average=0.9"])) != was
    assert fingerprint(override(recipe, ["noise.spread=log"])) != was


@dataclass(frozen=True)
class UNet3D(networks.UNet3D):
    """A network of somebody else, under a name that the engine knows."""

    sees_prior: ClassVar[bool] = False


@dataclass(frozen=True)
class Foreign(networks.UNet3D):
    """A network of somebody else."""


@pytest.mark.parametrize("kind", [UNet3D, Foreign])
def test_a_network_that_is_not_the_engine_s_cannot_be_saved(kind):
    with pytest.raises(BadUsage, match=f"{kind.__name__} of .* is unknown to the engine"):
        to_json(Recipe(**fields(network=kind(2, 2))))


def test_a_loss_that_is_not_the_engine_s_cannot_be_saved():
    def mean_squared_error(clean, estimate):
        return clean - estimate

    with pytest.raises(BadUsage, match="is unknown to the engine"):
        to_json(Recipe(**fields(loss=mean_squared_error)))


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "5", "null", '"recipe"', "{}", '{"kind": "Recipe"}', '{"kind": "os.system"}',
        '{"kind": "UNet3D", "width": 2, "levels": 2}', '{"kind": ["Recipe"]}', "\x00",
        "[" * 100_000,
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_damaged_json_is_a_mismatch(tmp_path, text):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(Mismatch) as refused:
        from_json(path)
    assert refused.value.path == str(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("steps"),
        lambda content: content.update(speed=3),
        lambda content: content.update(kind="Recip"),
        lambda content: content.update(network=5),
        lambda content: content.update(network=None),
        lambda content: content.update(crop="16,64,64"),
        lambda content: content.update(crop=None),
        lambda content: content.update(loss="os.system"),
        lambda content: content.update(loss=["mean_squared_error"]),
        lambda content: content.update(batch="2"),
        lambda content: content.update(batch=0),
        lambda content: content["network"].update(kind="Foreign"),
        lambda content: content["network"].update(width=None),
        lambda content: content["noise"].update(sigma="loud"),
        lambda content: content["noise"].pop("kind"),
        lambda content: content.update(prior=None),
    ],
)
def test_json_that_makes_no_recipe_is_a_mismatch(saved, change):
    with pytest.raises(Mismatch):
        from_json(saved(change))


def test_bytes_that_are_no_text_are_a_mismatch(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(Mismatch):
        from_json(path)


def test_missing_json_is_a_mismatch(tmp_path):
    with pytest.raises(Mismatch, match="No such file"):
        from_json(tmp_path / "recipe.json")


def test_reading_json_runs_none_of_the_code_beside_it(tmp_path, saved):
    path = saved()
    (tmp_path / "recipe.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    from_json(path)
    assert not (tmp_path / "ran").exists()


def test_differences_name_the_field_and_both_values(recipe):
    other = override(recipe, ["crop.shape=16,64,64", "batch=4", "steps=5"])
    assert differences(recipe, other, but=("steps",)) == [
        "crop.shape: [32, 256, 256] -> [16, 64, 64]",
        "batch: 2 -> 4",
    ]


def test_another_kind_of_network_is_a_difference():
    unet, dncnn = tiny("unet2d"), tiny("dncnn")
    assert "network.kind: UNet2D -> DnCNN" in differences(unet, dncnn)


def test_a_recipe_does_not_differ_from_itself(recipe):
    assert differences(recipe, replace(recipe)) == []


# -- Objectives ------------------------------------------------------------------------------------


def test_a_recipe_of_slices_learns_from_neighbours_by_an_override(tmp_path):
    recipe = override(load_recipe(find_recipe("unet2d")), ["objective=neighbour_slices"])
    recipe = override(recipe, ["objective.farthest=2", "objective.limit_mm=5"])
    assert recipe.objective == objectives.NeighbourSlices(farthest=2, limit_mm=5.0)
    path = tmp_path / "recipe.json"
    path.write_text(to_json(recipe))
    assert from_json(path) == recipe
    assert "objective         NeighbourSlices" in "\n".join(summary.lines(recipe))
    twin = override(recipe, ["objective=supervised"])
    assert twin == load_recipe(find_recipe("unet2d"))
    assert "objective" not in "\n".join(summary.lines(twin))


def test_a_volume_network_and_a_prior_of_neighbours_do_not_learn_from_neighbours(recipe):
    with pytest.raises(BadUsage, match="ResPrUNet sees the neighbouring slices"):
        override(recipe, ["objective=neighbour_slices"])
    with pytest.raises(BadUsage, match="takes one of supervised, neighbour_slices, not 'nearby'"):
        override(recipe, ["objective=nearby"])


def test_scans_without_clean_images_need_an_objective_without():
    recipe = load_recipe(find_recipe("selfsupervised_unet2d"))
    with pytest.raises(BadUsage, match="Supervised needs a clean image"):
        override(recipe, ["objective=supervised"])
    with pytest.raises(BadUsage, match="has one level: leave validate_at empty"):
        override(recipe, ["validate_at=0.05"])


@pytest.mark.parametrize("words", ["accumulate=0", "weight_decay=-1", "patience=-1", "loss=2*l3"])
def test_impossible_settings_of_training_are_refused(recipe, words):
    with pytest.raises(BadUsage):
        override(recipe, [words])


def test_a_sum_of_losses_is_shown_as_it_is_written(recipe):
    changed = override(recipe, ["loss=0.8*charbonnier+0.2*ssim"])
    assert "loss              0.8 * charbonnier + 0.2 * ssim" in summary.lines(changed)
