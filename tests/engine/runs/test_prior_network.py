"""Priors by name, in the step, in tiles, and a network's own copy in its run folder."""

import json
import shutil

import numpy as np
import pytest

from engine.comparison.methods import resolve_methods
from engine.errors import BadUsage, Mismatch
from engine.inference.prior_image import prior_blocks, source_blocks
from engine.inference.tiling import blocks_of
from engine.recipe.network_prior import Estimated, parse_prior
from engine.recipe.overrides import override
from engine.runs.prior_network import loaded_source, model_of, resolve
from engine.runs.run import Run
from engine.scoring.case_images import pair
from tests.engine.tiny import from_json, shrinking, tiny, untrained
from volumes import Clean, NeighbourMean, Noisy, SliceTV, Turned, Window
from volumes.boxes import Box
from volumes.volume import Volume

SIGMA = 0.1


@pytest.fixture(scope="session")
def flat_run(cpu, tmp_path_factory):
    """A run of a 2D U-Net that has never learned."""
    folder = tmp_path_factory.mktemp("runs") / "flat"
    return untrained(folder, tiny("unet2d"), cpu).folder


# -- Names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "prior"),
    {
        "mean": NeighbourMean(),
        "mean:2": NeighbourMean(radius=2),
        "noisy": NeighbourMean(radius=0),
        "tv": NeighbourMean(radius=0, of=SliceTV()),
        "tv:1": NeighbourMean(radius=1, of=SliceTV()),
        "clean": NeighbourMean(of=Clean()),
        "clean:0": NeighbourMean(radius=0, of=Clean()),
        "turned": NeighbourMean(of=Turned()),
    }.items(),
)
def test_a_prior_has_a_name(text, prior):
    assert parse_prior(text) == prior


def test_a_run_folder_names_its_network_s_estimate(flat_run):
    assert parse_prior(str(flat_run)) == NeighbourMean(radius=0, of=Estimated(str(flat_run)))
    assert parse_prior(f"{flat_run}:1") == NeighbourMean(radius=1, of=Estimated(str(flat_run)))


@pytest.mark.parametrize("text", ["", "median", "tv:", "tv:x", "nowhere"])
def test_what_names_no_prior_is_refused(text):
    with pytest.raises(BadUsage, match="is no prior"):
        parse_prior(text)


def test_a_recipe_s_prior_is_set_by_its_name_and_survives_the_run_folder(flat_run, tmp_path, cpu):
    for text in ("tv:1", "clean", "turned", str(flat_run)):
        recipe = tiny("respr_unet3d", f"prior={text}")
        assert recipe.prior == parse_prior(text)
        run = untrained(tmp_path / text.replace("/", "-"), recipe, cpu)
        assert from_json(run.folder / "recipe.json") == recipe


def test_a_prior_that_must_know_the_noise_is_refused_where_noise_is_recorded():
    from engine.recipe.recipe import Recipe
    from volumes import Recorded

    recipe = tiny("respr_unet3d", "prior=tv")
    fields = {name: getattr(recipe, name) for name in recipe.__dataclass_fields__}
    with pytest.raises(ValueError, match="SliceTV needs additive noise"):
        Recipe(**fields | {"noise": Recorded()})


# -- In the step -----------------------------------------------------------------------------------


@pytest.fixture
def images(cpu, volume):
    """The clean image, and the noisy one with its prior, of a step of a tiny recipe."""
    from engine.training.batches import feed
    from engine.training.state import TrainingState
    from volumes.sampling.examples import Examples

    def make(*overrides):
        recipe = tiny("respr_unet3d", "network.levels=1", *overrides)
        examples = Examples([volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
        with feed(examples, recipe.batch, cpu.strategy) as fed:
            batch = next(fed.batches(0, 1))
        clean, noisy, prior, *_ = TrainingState(recipe, cpu).step.images(batch)
        return clean.numpy(), noisy.numpy(), prior.numpy()

    return make


def test_the_noisy_prior_is_the_noisy_image(images):
    _, noisy, prior = images("prior=noisy")
    np.testing.assert_array_equal(prior, noisy)


def test_the_oracle_is_the_clean_image(images):
    clean, noisy, prior = images("prior=clean:0")
    np.testing.assert_array_equal(prior, clean)
    assert np.abs(noisy - clean).max() > 0.1


def test_the_turned_prior_is_that_of_the_turned_crop(images):
    _, _, upright = images("prior=mean")
    _, _, prior = images("prior=turned")
    np.testing.assert_allclose(prior, upright[:, :, ::-1, ::-1], atol=1e-6)


def test_total_variation_leaves_less_noise(images):
    clean, noisy, prior = images("prior=tv")
    assert np.std(prior - clean) < 0.6 * np.std(noisy - clean)


def test_the_estimated_prior_is_the_network_s_own_estimate(images, flat_run):
    _, noisy, prior = images(f"prior={flat_run}")
    model = model_of(Estimated(str(flat_run))).network()
    np.testing.assert_allclose(prior, model(noisy, training=False).numpy(), atol=1e-5)


@pytest.mark.parametrize("prior", ["tv", "clean", "turned", "network"])
def test_a_step_learns_with_every_prior_compiled_or_not(cpu, tf, volume, flat_run, prior):
    from dataclasses import replace

    from engine.training.batches import feed
    from engine.training.state import TrainingState
    from volumes.sampling.examples import Examples

    name = str(flat_run) if prior == "network" else prior
    recipe = tiny("respr_unet3d", "network.levels=1", f"prior={name}")
    examples = Examples([volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
    with feed(examples, recipe.batch, cpu.strategy) as fed:
        batch = next(fed.batches(0, 1))
    losses = []
    for xla in (False, True):
        training = TrainingState(recipe, replace(cpu, xla=xla))
        losses.append([float(training.step(batch, tf.constant(1e-3))[0]) for _ in range(6)])
        assert losses[-1][-1] < losses[-1][0]
    np.testing.assert_allclose(*losses, rtol=1e-3)


# -- In tiles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tv:1", "turned", "network:1", "clean"])
def test_blocks_of_every_prior_are_those_of_the_whole_prior(cpu, flat_run, name):
    prior = parse_prior(name.replace("network", str(flat_run)))
    rng = np.random.default_rng(0)
    clean = np.broadcast_to(np.linspace(0, 1, 23), (5, 18, 23)).astype(np.float32)
    noisy = clean + np.float32(SIGMA) * rng.standard_normal(clean.shape, np.float32)
    source = source_blocks(
        loaded_source(prior.of), blocks_of(noisy), noisy.shape, SIGMA, blocks_of(clean)
    )  # fmt: skip
    blocks = prior_blocks(prior, source, 5, 3.0)
    whole = blocks(Box((0, 0, 0), noisy.shape))
    np.testing.assert_allclose(blocks(Box((2, 3, 7), (2, 9, 11))), whole[2:4, 3:12, 7:18], atol=0)
    reflected = np.pad(whole, ((0, 1), (0, 2), (0, 1)), "reflect")
    np.testing.assert_allclose(blocks(Box((0, 0, 0), (6, 20, 24))), reflected, atol=0)
    assert np.abs(whole - noisy).max() > 0.05


def test_validation_scores_the_recipe_s_prior(cpu, volume):
    recipe = tiny("respr_unet3d", "prior=clean:0")
    found = pair(recipe, volume, 4)
    np.testing.assert_array_equal(found.prior, found.clean)
    found = pair(tiny("respr_unet3d", "prior=turned"), volume, 4)
    expected = pair(tiny("respr_unet3d", "prior=mean"), volume, 4).prior[:, ::-1, ::-1]
    np.testing.assert_allclose(found.prior, expected, atol=1e-6)


# -- In a run folder -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def grown(cpu, dataset, tmp_path_factory):
    """A 2D network's run, and a ResPr-UNet's that was trained on its estimate."""
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("runs")
    data = ["--data", str(dataset)]
    flat, deep = folder / "flat", folder / "deep"
    assert run(["fit", "unet2d", *shrinking("unet2d"), *data, "--run", str(flat)]) == 0
    overrides = [*shrinking("respr_unet3d"), f"prior={flat}"]
    assert run(["fit", "respr_unet3d", *overrides, *data, "--run", str(deep)]) == 0
    return flat, deep


def test_a_run_keeps_a_copy_of_its_prior_s_network(grown, tmp_path, engine, dataset):
    flat, deep = grown
    moved = tmp_path / "deep"
    shutil.copytree(deep, moved)
    scan = dataset / "case_00000" / "imaging.nii.gz"
    outputs = []
    for run, name in ((deep, "one"), (moved, "other")):
        hidden = flat.with_name("hidden")
        flat.rename(hidden)  # nothing of it is needed any more
        try:
            output = tmp_path / f"{name}.nii.gz"
            code, _, error = engine("denoise", scan, "-m", run, "-o", output)
        finally:
            hidden.rename(flat)
        assert code == 0, error
        outputs.append(output.read_bytes())
    assert outputs[0] == outputs[1]


def test_a_run_resumes_without_the_run_of_its_prior(grown, tmp_path, engine, dataset):
    flat, deep = grown
    shutil.copytree(deep, tmp_path / "deep")
    words = ("fit", "respr_unet3d", *shrinking("respr_unet3d"), "--data", dataset, "--steps", "5")
    hidden = flat.with_name("hidden")
    flat.rename(hidden)
    try:
        done = engine(*words, f"prior={flat}", "--run", tmp_path / "deep")
        new = engine(*words, f"prior={flat}", "--run", tmp_path / "new", "--dry-run")
        compared = engine("evaluate", f"prior@{flat}", "--data", dataset, "--split", "all")
    finally:
        hidden.rename(flat)
    assert done[0] == 0, done[2]
    assert Run(tmp_path / "deep").checkpoint("last").name == "step-00000005"
    for code, out, error in (new, compared):
        assert (code, out) == (2, "")
        assert error.startswith(f"engine: error: {flat}: is no prior. Use ")


@pytest.mark.parametrize("spelling", ["renamed", "another path"])
def test_a_run_knows_its_prior_s_network_under_another_name(
    grown, tmp_path, engine, dataset, spelling
):
    flat, deep = (shutil.copytree(of, tmp_path / of.name) for of in grown)
    named = tmp_path / "deep" / ".." / "flat"
    if spelling == "renamed":
        named = flat.rename(tmp_path / "renamed")
    words = ("fit", "respr_unet3d", *shrinking("respr_unet3d"), "--data", dataset, "--steps", "5")
    code, _, error = engine(*words, f"prior={named}", "--run", deep)
    assert code == 0, error
    assert Run(deep).recipe().prior.of.run == str(grown[0])


def test_another_network_is_no_name_of_the_prior_s(grown, flat_run, tmp_path, engine, dataset):
    deep = shutil.copytree(grown[1], tmp_path / "deep")
    words = ("fit", "respr_unet3d", *shrinking("respr_unet3d"), "--data", dataset, "--steps", "5")
    code, _, error = engine(*words, f"prior={flat_run}", "--run", deep)
    assert code == 5
    assert "holds a run of another recipe (prior.of" in error


def test_a_network_that_makes_no_prior_is_refused_before_scans_are_read(
    unet_run, dataset, engine, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "engine.training.fit.read_cases", lambda *_, **__: pytest.fail("read in vain")
    )
    words = ("respr_unet3d", *shrinking("respr_unet3d"), f"prior={unet_run}")
    code, _, error = engine("fit", *words, "--data", dataset, "--run", tmp_path / "new")
    assert code == 5
    assert "a prior is made slice by slice" in error


def test_the_copy_holds_the_checkpoint_that_was_best(grown):
    flat, deep = grown
    best, copy = Run(flat).checkpoint("best"), Run(deep / "prior").checkpoint("last")
    assert copy.name == best.name
    assert (copy / "MANIFEST.json").read_bytes() == (best / "MANIFEST.json").read_bytes()


def test_a_network_that_was_trained_on_a_scored_case_makes_no_prior(grown, tmp_path):
    flat, _ = grown
    seen = json.loads((flat / "run.json").read_text())["cases"]["training"]
    name, sha256 = next(iter(seen.items()))
    prior = NeighbourMean(radius=0, of=Estimated(str(flat)))
    for case, content in ((name, "new"), ("renamed", sha256)):
        scored = Volume(np.zeros((1, 2, 2), np.int16), (1.0, 1.0, 1.0), case, content)
        with pytest.raises(Mismatch, match=f"was trained on {case}"):
            resolve(prior, Window(), Run(tmp_path)).refuse_seen([scored])
    other = Volume(np.zeros((1, 2, 2), np.int16), (1.0, 1.0, 1.0), "other", "new")
    resolve(prior, Window(), Run(tmp_path)).refuse_seen([other])


def test_a_network_of_another_window_makes_no_prior(flat_run, tmp_path):
    prior = parse_prior(str(flat_run))
    with pytest.raises(Mismatch, match=r"was trained in the window \[-1000, 400\] HU"):
        resolve(prior, Window(-200, 300), Run(tmp_path))
    resolve(prior, Window(clip=False), Run(tmp_path))


def test_networks_of_two_windows_are_not_compared_where_one_makes_a_prior(flat_run, cpu, tmp_path):
    other = tiny("unet2d", "window.low_hu=-200", "window.high_hu=300")
    narrow = untrained(tmp_path / "narrow", other, cpu).folder
    with pytest.raises(Mismatch, match="different windows"):
        resolve_methods([str(flat_run), f"spade@{narrow}"], "best")
    assert len(resolve_methods([str(flat_run), f"spade@{flat_run}"], "best")) == 2


def test_a_network_of_volumes_or_with_a_prior_makes_no_prior(unet_run, respr_run):
    for run in (unet_run, respr_run):
        with pytest.raises(Mismatch, match="a prior is made slice by slice"):
            model_of(Estimated(str(run)))


def test_a_model_of_the_oracle_wants_a_second_scan(engine, cpu, tmp_path, phantom_file):
    run = untrained(tmp_path / "oracle", tiny("respr_unet3d", "prior=clean"), cpu)
    code, _, error = engine("denoise", phantom_file, "-m", run.folder)
    assert code == 2
    assert "was trained with clean slices as its prior" in error
    assert "--prior" in error
    code, _, error = engine("denoise", phantom_file, "-m", run.folder, "--prior", phantom_file)
    assert code == 0, error


def test_noisy_is_what_recipes_average_unless_they_say_otherwise():
    assert NeighbourMean().of == Noisy()
    assert override(tiny("respr_unet3d"), ["prior.radius=2"]).prior.of == Noisy()


def test_a_run_that_lost_its_prior_s_network_does_not_take_another(
    grown, tmp_path, engine, dataset
):
    flat, deep = grown
    run = tmp_path / "deep"
    shutil.copytree(deep, run)
    shutil.rmtree(run / "prior")
    overrides = [*shrinking("respr_unet3d"), f"prior={flat}", "steps=6"]
    code, _, error = engine("fit", "respr_unet3d", *overrides, "--data", dataset, "--run", run)
    assert code == 5
    assert "no longer exists, and the run was trained with it" in error
