from dataclasses import replace

import numpy as np
import pytest

from tests.engine.tiny import tiny
from volumes import Recorded
from volumes.sampling.examples import Examples


@pytest.fixture
def training(cpu):
    """Makes a training of a tiny recipe."""
    from engine.training.state import TrainingState

    def make(recipe, **changes):
        return TrainingState(recipe, replace(cpu, **changes))

    return make


@pytest.fixture
def batch(cpu, volume):
    """Gives the batch of a step of a recipe on the phantom."""
    from engine.training.batches import feed

    def make(recipe, step=0):
        examples = Examples([volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
        with feed(examples, recipe.batch, cpu.strategy) as fed:
            return next(fed.batches(step, step + 1))

    return make


def small(name="unet3d", *more):
    """A recipe whose step is traced in a fraction of a second."""
    return tiny(name, *([] if name == "dncnn" else ["network.levels=1"]), *more)


def differing(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_a_step_learns(tf, training, batch):
    recipe = small("unet3d")
    ours, given = training(recipe), batch(recipe)
    losses = [float(ours.step(given, tf.constant(1e-2))[0]) for _ in range(30)]
    assert losses[-1] < losses[0] / 2


def test_the_loss_is_the_mean_over_the_batch(tf, training, batch):
    recipe = small("unet3d", "batch=3")
    ours, given = training(recipe), batch(recipe)
    clean, noisy, *_ = ours.step.images(given)
    error = ours.model(noisy, training=True).numpy() - clean.numpy()
    loss, finite, _ = ours.step(given, tf.constant(1e-3))
    assert finite
    assert float(loss) == pytest.approx(float(np.mean(error.astype(np.float64) ** 2)), rel=1e-5)


def test_the_recipe_s_loss_is_what_is_learned(tf, training, batch):
    recipe = small("unet3d", "loss=mean_absolute_error")
    ours, given = training(recipe), batch(recipe)
    clean, noisy, *_ = ours.step.images(given)
    error = ours.model(noisy, training=True).numpy() - clean.numpy()
    loss, *_ = ours.step(given, tf.constant(1e-3))
    assert float(loss) == pytest.approx(float(np.mean(np.abs(error))), rel=1e-5)


def test_the_update_is_adam_s_on_the_gradient_of_the_loss(tf, training, batch):
    import keras

    recipe = small("unet3d")
    ours, theirs = training(recipe), recipe.network.build(seed=recipe.seed)
    optimizer = keras.optimizers.Adam(1e-2)
    for step in range(3):
        given = batch(recipe, step)
        clean, noisy, *_ = ours.step.images(given)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(theirs(noisy) - clean))
        optimizer.apply(
            tape.gradient(loss, theirs.trainable_variables), theirs.trainable_variables
        )  # fmt: skip
        ours.step(given, tf.constant(1e-2))
    for one, other in zip(ours.model.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_the_step_is_traced_once_for_all_batches_and_rates(tf, training, batch):
    recipe = small("unet3d", "noise.sigma=0.02,0.1")
    ours = training(recipe)
    for step, rate in enumerate((1e-3, 1e-4, 0.5)):
        ours.step(batch(recipe, step), tf.constant(rate))
    assert ours.step.run.experimental_get_tracing_count() == 1


def test_the_clean_image_is_the_clipped_window(training, batch):
    recipe = small("unet3d", "window.high_hu=0")
    given = batch(recipe)
    clean = training(recipe).step.images(given).clean
    assert given.hu.numpy().max() > 0
    np.testing.assert_allclose(
        clean.numpy()[..., 0], np.clip(given.hu.numpy() / 1000 + 1, 0, 1), atol=1e-6
    )


def test_without_clipping_the_clean_image_goes_beyond_the_window(training, batch):
    recipe = small("unet3d", "window.high_hu=0", "window.clip=false")
    given = batch(recipe)
    clean = training(recipe).step.images(given).clean
    np.testing.assert_allclose(clean.numpy()[..., 0], given.hu.numpy() / 1000 + 1, atol=1e-6)


def test_the_noise_is_as_strong_as_its_example_s_sigma(tf, training, batch):
    recipe = small("unet3d")
    given = batch(recipe)._replace(sigma=tf.constant([0.05, 0.2]))
    clean, noisy, *_ = training(recipe).step.images(given)
    spread = (noisy - clean).numpy().std(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(spread, [0.05, 0.2], rtol=0.06)  # of 2,048 voxels each


def test_examples_have_noise_of_their_own(training, batch):
    recipe = small("unet3d", "batch=4")
    step = training(recipe).step
    noise = []
    for index in range(2):
        clean, noisy, *_ = step.images(batch(recipe, index))
        noise += list((noisy - clean).numpy())
    flat = np.array([n.ravel() for n in noise])
    correlation = np.corrcoef(flat) - np.eye(8)
    assert np.abs(correlation).max() < 0.1


def test_the_same_example_has_the_same_noise_in_any_batch(training, batch):
    two, four = small("unet3d", "batch=2"), small("unet3d", "batch=4")
    later = training(two).step.images(batch(two, 1)).noisy
    together = training(four).step.images(batch(four, 0)).noisy
    np.testing.assert_array_equal(later.numpy(), together.numpy()[2:])


def test_compiled_and_uncompiled_steps_agree(tf, training, batch):
    recipe = small("respr_unet3d")
    graph, compiled = training(recipe), training(recipe, xla=True)
    for step in range(3):
        given = batch(recipe, step)
        (one, *_), (other, *_) = (t.step(given, tf.constant(1e-3)) for t in (graph, compiled))
        assert float(one) == pytest.approx(float(other), abs=1e-5)
    for name, array in graph.arrays().items():
        np.testing.assert_allclose(compiled.arrays()[name], array, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("index", range(3))
def test_the_prior_of_the_step_is_that_of_the_host(training, batch, volume, index):
    recipe = small("respr_unet3d", "batch=1", "crop.flips=false")
    examples = Examples([volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
    box, given = examples[index].box, batch(recipe, index)
    step = training(recipe).step
    clean, noisy, prior, *_ = step.images(given)
    deep = step.noise.add(
        step.window.clean(given.hu[..., None]), given.sigma, given.spectrum, given.keys
    ).numpy()[0, ..., 0]  # fmt: skip
    halo, depth = recipe.prior.radius, volume.hu.shape[0]
    for z in range(box.shape[0]):
        near = [k for k in range(-halo, halo + 1) if 0 <= box.start[0] + z + k < depth]
        weight = np.exp([-recipe.prior.decay * abs(k) for k in near])
        mean = sum(w * deep[z + halo + k] for w, k in zip(weight, near, strict=True))
        np.testing.assert_allclose(prior[0, z, ..., 0], mean / weight.sum(), atol=1e-6)
    np.testing.assert_array_equal(noisy[0, ..., 0], deep[halo:-halo])
    inner = given.hu.numpy()[0, halo:-halo]
    np.testing.assert_allclose(clean[0, ..., 0], np.clip((inner + 1000) / 1400, 0, 1), atol=1e-6)


def test_mirrored_crops_have_the_prior_of_the_mirrored_volume(training, batch, volume):
    recipe = small("respr_unet3d", "batch=1")
    step = training(recipe).step
    examples = Examples([volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
    for index in range(6):
        given = batch(recipe, index)._replace(sigma=np.zeros(1, "f4"))
        clean, _, prior, *_ = step.images(given)
        # Without noise the prior of a crop is a weighted mean of slices of the volume alone.
        box = examples[index].box
        y, x = box.slices[1:]
        slab = np.clip((volume.hu[:, y, x].astype(np.float64) + 1000) / 1400, 0, 1)
        weights = recipe.prior.weights(0, slab.shape[0], slab.shape[0], volume.spacing_mm[0])
        deep = np.concatenate([slab[:1].repeat(4, 0), slab, slab[:1].repeat(4, 0)])
        whole = np.tensordot(weights, deep, 1)[box.slices[0]]
        expected = _mirrored_like(clean.numpy()[0, ..., 0], slab[box.slices[0]], whole)
        np.testing.assert_allclose(prior.numpy()[0, ..., 0], expected, atol=1e-5)


def test_clean_and_recorded_crops_are_mirrored_where_their_example_is(cpu, training, volume):
    from engine.training.batches import feed

    recipe = replace(small("dncnn", "batch=8"), noise=Recorded())
    pair = replace(volume, noisy_hu=(volume.hu // 2).astype(np.int16))
    examples = Examples([pair], recipe.crop, recipe.noise, None, recipe.seed)
    step = training(recipe).step
    with feed(examples, 8, cpu.strategy) as fed:
        clean, noisy, *_ = step.images(next(fed.batches(0, 1)))
    assert {examples[i].mirrored for i in range(8)} == {False, True}
    for i in range(8):
        for image, hu in ((clean, examples[i].hu), (noisy, examples[i].noisy_hu)):
            unit = np.clip((hu + 1000.0) / 1400, 0, 1)
            np.testing.assert_allclose(image[i, ..., 0], unit, atol=1e-6)


def _mirrored_like(shown, original, other):
    """`other` mirrored along the axes along which `original` must be to become `shown`."""
    for signs in np.ndindex(2, 2, 2):
        turn = tuple(slice(None, None, -1 if sign else 1) for sign in signs)
        if np.allclose(original[turn], shown, atol=1e-5):
            return other[turn]
    raise AssertionError("the crop is not where its box says")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "name", ["unet3d", "respr_unet3d", "dncnn", "resnet2d", "unet2d_residual_bn"]
)
def test_a_step_in_lower_precision_learns_finite_weights(tf, training, batch, precision, name):
    recipe = tiny(name)
    ours = training(recipe, precision=precision)
    before = ours.arrays()
    loss, finite, _ = ours.step(batch(recipe), tf.constant(1e-3))
    after = ours.arrays()
    assert finite
    assert np.isfinite(float(loss))
    assert all(np.isfinite(array).all() for array in after.values())
    assert {v.path for v in ours.model.trainable_variables} <= {
        name.removeprefix("model/") for name in differing(before, after)
    }


def test_every_precision_and_xla_follow_the_loss_curve_of_float32(tf, training, batch):
    recipe = small("unet3d")
    batches = [batch(recipe, step) for step in range(30)]

    def curve(precision, xla):
        ours = training(recipe, precision=precision, xla=xla)
        return np.array([float(ours.step(given, tf.constant(3e-3)).loss) for given in batches])

    exact = curve("float32", False)
    assert exact[-1] < exact[0] / 5
    for precision, apart in {"float32": 1e-5, "bfloat16": 0.05, "float16": 0.005}.items():
        for xla in (False, True):
            np.testing.assert_allclose(curve(precision, xla), exact, rtol=apart, err_msg=precision)


@pytest.mark.parametrize("name", ["unet3d", "dncnn"])
@pytest.mark.parametrize("sigma", [np.nan, np.inf])
def test_a_bad_batch_changes_no_variable(tf, training, batch, name, sigma):
    recipe = small(name)
    ours = training(recipe)
    ours.step(batch(recipe), tf.constant(1e-3))
    before = ours.arrays()
    bad = batch(recipe, 1)._replace(sigma=tf.constant([0.1, sigma]))
    _, finite, _ = ours.step(bad, tf.constant(1e-3))
    assert not finite
    assert differing(before, ours.arrays()) == set()


def test_a_bad_batch_in_float16_halves_the_loss_scale_and_changes_nothing_else(tf, training, batch):
    recipe = small("dncnn")
    ours = training(recipe, precision="float16")
    ours.step(batch(recipe), tf.constant(1e-3))
    before = ours.arrays()
    bad = batch(recipe, 1)._replace(sigma=tf.constant([0.1, np.nan]))
    ours.step(bad, tf.constant(1e-3))
    after = ours.arrays()
    assert differing(before, after) == {"loss_scale/scale", "loss_scale/since"}
    assert after["loss_scale/scale"] == before["loss_scale/scale"] / 2


def test_a_good_batch_moves_the_statistics_of_normalisation(tf, training, batch):
    recipe = small("dncnn")
    ours = training(recipe)
    before = ours.arrays()
    ours.step(batch(recipe), tf.constant(1e-3))
    moved = differing(before, ours.arrays())
    assert {name for name in before if "moving" in name} <= moved


def test_clip_norm_bounds_the_gradient_that_is_applied(tf, training, batch):
    recipe = small("unet3d", "clip_norm=0.001")
    ours = training(recipe)
    ours.step(batch(recipe), tf.constant(1e-3))
    means = [a / 0.1 for name, a in ours.arrays().items() if name.startswith("adam/mean")]
    norm = np.sqrt(sum(np.sum(mean.astype(np.float64) ** 2) for mean in means))
    assert norm == pytest.approx(0.001, rel=1e-3)


MANY = "average=0.9", "clip_norm=0.05", "weight_decay=0.1", "loss=0.8*l1+0.2*ssim"


@pytest.mark.parametrize("changes", [{}, {"xla": True}, {"precision": "float16"}], ids=str)
def test_accumulated_batches_follow_the_loss_curve_of_the_larger_batch(
    tf, training, cpu, volume, changes
):
    from engine.training.batches import feed

    curves, weights = [], []
    for parts in ("batch=8", "accumulate=1"), ("batch=2", "accumulate=4"):
        recipe = small("respr_unet3d", *parts, *MANY)
        ours = training(recipe, **changes)
        examples = Examples([volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
        losses = []
        with feed(examples, 8, cpu.strategy, parts=recipe.accumulate) as fed:
            for given in fed.batches(0, 6):
                losses.append(float(ours.step(given, tf.constant(1e-3)).loss))
        curves.append(losses)
        weights.append(ours.arrays())
    exact = changes.get("precision") != "float16"
    np.testing.assert_allclose(*curves, atol=1e-5 if exact else 1e-3, rtol=0)
    for name, array in weights[0].items():
        if exact and not name.startswith("adam/"):
            np.testing.assert_allclose(weights[1][name], array, atol=1e-5, err_msg=name)


def test_one_bad_part_of_a_batch_changes_no_variable(tf, training, batch):
    recipe = small("dncnn", "batch=2", "accumulate=2")
    ours = training(recipe)
    given = batch(small("dncnn", "batch=4"))
    ours.step(given, tf.constant(1e-3))
    before = ours.arrays()
    bad = given._replace(sigma=tf.constant([0.1, 0.1, 0.1, np.nan]))
    assert not ours.step(bad, tf.constant(1e-3)).finite
    assert differing(before, ours.arrays()) == set()
