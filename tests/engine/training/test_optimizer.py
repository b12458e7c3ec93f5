import numpy as np
import pytest

SHAPES = {"kernel": (3, 2), "bias": (4,)}


@pytest.fixture
def adam(tf):
    """Makes an Adam of two variables that are 0."""
    from engine.training.optimizer import Adam

    def make(*, scaled=False, clip_norm=0.0, weight_decay=0.0, start=0.0):
        variables = {name: tf.Variable(tf.fill(shape, start)) for name, shape in SHAPES.items()}
        return Adam(variables, scaled=scaled, clip_norm=clip_norm, weight_decay=weight_decay)

    return make


def gradients(seed, size=1.0):
    rng = np.random.default_rng(seed)
    return [np.asarray(size * rng.standard_normal(s), np.float32) for s in SHAPES.values()]


def weights(adam):
    return [variable.numpy() for variable in adam.variables]


def everything(adam, but=()):
    state = {name: v.numpy() for name, v in adam.state.items() if name not in but}
    return weights(adam) + list(state.values())


def assert_equal(some, others):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_update_is_that_of_keras_adam(tf, adam):
    import keras

    ours = adam()
    theirs = [keras.Variable(np.zeros(shape, np.float32)) for shape in SHAPES.values()]
    optimizer = keras.optimizers.Adam(1e-2)
    for step in range(20):
        # From small to large, so that the moments have something to forget.
        given = gradients(step, 10.0 ** (step % 5 - 3))
        ours.update([tf.constant(g) for g in given], tf.constant(1e-2))
        optimizer.apply([tf.constant(g) for g in given], theirs)
    for one, other in zip(weights(ours), theirs, strict=True):
        assert np.abs(one).max() > 1e-3
        np.testing.assert_allclose(one, other.numpy(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scaled", [False, True])
def test_weight_decay_is_that_of_keras_adamw_on_kernels_alone(tf, adam, scaled):
    import keras

    ours = adam(weight_decay=0.3, start=1.0, scaled=scaled)
    theirs = [keras.Variable(np.ones(s, np.float32), name=n) for n, s in SHAPES.items()]
    optimizer = keras.optimizers.AdamW(1e-2, weight_decay=0.3)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    for step in range(20):
        given = gradients(step)
        scale = float(ours.scale.numpy())
        ours.update([tf.constant(scale * g) for g in given], tf.constant(1e-2))
        optimizer.apply([tf.constant(g) for g in given], theirs)
    for one, other in zip(weights(ours), theirs, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=2e-6, rtol=0)


def test_the_decay_is_not_clipped_and_a_bad_step_decays_nothing(tf, adam):
    ours = adam(weight_decay=0.5, start=2.0, clip_norm=1e-3)
    ours.update([tf.zeros(shape) for shape in SHAPES.values()], tf.constant(0.1))
    kernel, bias = weights(ours)
    np.testing.assert_allclose(kernel, 2.0 * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(bias, 2.0)
    ours.update([tf.fill(shape, np.nan) for shape in SHAPES.values()], tf.constant(0.1))
    np.testing.assert_array_equal(weights(ours)[0], kernel)


def test_the_first_step_is_as_long_as_the_learning_rate(tf, adam):
    ours = adam()
    ours.update([tf.fill(shape, 7.0) for shape in SHAPES.values()], tf.constant(0.01))
    for variable in weights(ours):
        np.testing.assert_allclose(variable, -0.01, rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scaled", [False, True])
def test_one_gradient_that_is_not_finite_changes_no_variable(tf, adam, value, scaled):
    ours = adam(scaled=scaled)
    ours.update([tf.constant(g) for g in gradients(0)], tf.constant(0.1))
    before = everything(ours, but=("loss_scale/scale", "loss_scale/since"))
    bad = gradients(1)
    bad[1][2] = value
    finite = ours.update([tf.constant(g) for g in bad], tf.constant(0.1))
    assert not finite
    assert_equal(before, everything(ours, but=("loss_scale/scale", "loss_scale/since")))


def test_clipping_does_not_hide_a_gradient_that_is_not_finite(tf, adam):
    ours = adam(clip_norm=1.0)
    bad = gradients(1)
    bad[0][0, 0] = np.inf
    assert not ours.update([tf.constant(g) for g in bad], tf.constant(0.1))
    assert_equal(weights(ours), [np.zeros(shape) for shape in SHAPES.values()])


def test_finite_gradients_are_reported_so(tf, adam):
    assert adam().update([tf.constant(g) for g in gradients(0)], tf.constant(0.1))


def test_a_bad_step_leaves_no_trace_in_the_steps_after_it(tf, adam):
    with_bad, without = adam(), adam()
    for step in range(6):
        if step == 3:
            bad = [tf.fill(shape, np.float32(np.nan)) for shape in SHAPES.values()]
            with_bad.update(bad, tf.constant(0.1))
        for ours in (with_bad, without):
            ours.update([tf.constant(g) for g in gradients(step)], tf.constant(0.1))
    assert_equal(everything(with_bad), everything(without))


def test_gradients_of_the_scaled_loss_are_unscaled(tf, adam):
    plain, scaled = adam(), adam(scaled=True)
    scale = float(scaled.scale.numpy())
    assert scale > 1
    plain.update([tf.constant(g) for g in gradients(0)], tf.constant(0.1))
    scaled.update([tf.constant(scale * g) for g in gradients(0)], tf.constant(0.1))
    assert_equal(weights(plain), weights(scaled))


def test_the_loss_scale_halves_where_gradients_are_not_finite(tf, adam):
    ours = adam(scaled=True)
    before = ours.scale.numpy()
    bad = [tf.fill(shape, np.float32(np.inf)) for shape in SHAPES.values()]
    ours.update(bad, tf.constant(0.1))
    assert ours.scale.numpy() == before / 2


def test_the_loss_scale_never_falls_below_1(tf, adam):
    ours = adam(scaled=True)
    bad = [tf.fill(shape, np.float32(np.inf)) for shape in SHAPES.values()]
    for _ in range(40):
        ours.update(bad, tf.constant(0.1))
    assert ours.scale.numpy() == 1


def test_the_loss_scale_doubles_after_2000_good_steps_in_a_row(tf, adam):
    ours = adam(scaled=True)
    before = ours.scale.numpy()
    good = [tf.constant(g) for g in gradients(0)]
    ours.state["loss_scale/since"].assign(1998)
    ours.update(good, tf.constant(0.1))
    assert ours.scale.numpy() == before
    ours.update(good, tf.constant(0.1))
    assert ours.scale.numpy() == 2 * before
    assert ours.state["loss_scale/since"].numpy() == 0


def test_a_bad_step_resets_the_count_of_good_ones(tf, adam):
    ours = adam(scaled=True)
    ours.state["loss_scale/since"].assign(1999)
    bad = [tf.fill(shape, np.float32(np.nan)) for shape in SHAPES.values()]
    ours.update(bad, tf.constant(0.1))
    before = ours.scale.numpy()
    ours.update([tf.constant(g) for g in gradients(0)], tf.constant(0.1))
    assert ours.scale.numpy() == before


def test_without_scaling_the_scale_is_1_and_stays(tf, adam):
    ours = adam()
    bad = [tf.fill(shape, np.float32(np.nan)) for shape in SHAPES.values()]
    for given in (bad, [tf.constant(g) for g in gradients(0)]):
        ours.update(given, tf.constant(0.1))
        assert ours.scale.numpy() == 1


def first_mean(adam):
    """The gradient that reached the first moment, which starts at 0."""
    return [adam.state[f"adam/mean/{name}"].numpy() / 0.1 for name in SHAPES]


def test_the_gradient_is_clipped_by_the_norm_of_all_of_it(tf, adam):
    ours = adam(clip_norm=1.0)
    kernel, bias = np.zeros((3, 2), np.float32), np.zeros(4, np.float32)
    kernel[0, 0], bias[0] = 3, 4  # of norm 5 together
    ours.update([tf.constant(kernel), tf.constant(bias)], tf.constant(0.1))
    clipped = first_mean(ours)
    assert clipped[0][0, 0] == pytest.approx(0.6)
    assert clipped[1][0] == pytest.approx(0.8)


def test_a_gradient_within_the_norm_is_not_clipped(tf, adam):
    ours = adam(clip_norm=100.0)
    ours.update([tf.constant(g) for g in gradients(0)], tf.constant(0.1))
    for found, given in zip(first_mean(ours), gradients(0), strict=True):
        np.testing.assert_allclose(found, given, rtol=1e-5)


def test_clipping_comes_after_unscaling(tf, adam):
    ours = adam(clip_norm=1.0, scaled=True)
    scale = ours.scale.numpy()
    small = [np.full(shape, 0.01, np.float32) for shape in SHAPES.values()]  # of norm 0.03
    ours.update([tf.constant(scale * g) for g in small], tf.constant(0.1))
    for found in first_mean(ours):
        np.testing.assert_allclose(found, 0.01, rtol=1e-5)
