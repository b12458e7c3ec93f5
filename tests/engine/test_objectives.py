from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest

from engine import losses
from engine.networks import UNet2D, UNet3D
from engine.objectives import Images, NeighbourSlices, Objective, Supervised
from tests.engine.tiny import tiny
from volumes import Clean, Crop, Gaussian, NeighbourMean, Noisy, SliceTV, random_draws
from volumes.sampling.examples import Examples

ALL = NeighbourSlices(agree_hu=1e9)


@dataclass(frozen=True)
class Noise2Void(Objective):
    """Hidden pixels are predicted from those around them (Krull, Buchholz and Jug, CVPR 2019).

    A foreign objective: the protocol must carry it.
    """

    radius: int = 2
    sd_above: float = 2.17  # a normal number is larger in 1.5 % of the pixels

    @property
    def needs_clean(self):
        return False

    def values(self, network, images, loss):
        import tensorflow as tf

        noisy, side = images.noisy, range(-self.radius, self.radius + 1)
        shifts = [(y, x) for y in side for x in side if (y, x) != (0, 0)]
        drawn = partial(random_draws.normal, (2, *noisy.shape[1:]))
        numbers = tf.stack([drawn(images.keys[b]) for b in range(noisy.shape[0])])
        hidden = tf.cast(numbers[:, 0] > self.sd_above, tf.float32)
        uniform = 0.5 + 0.5 * tf.math.erf(numbers[:, 1] * 0.5**0.5)
        chosen = tf.cast(uniform * len(shifts), tf.int32)
        near = tf.add_n(
            [
                tf.where(chosen == i, tf.roll(noisy, shift, (2, 3)), 0.0)
                for i, shift in enumerate(shifts)
            ]
        )
        estimate = network(images._replace(noisy=hidden * near + (1 - hidden) * noisy))
        target = hidden * noisy + (1 - hidden) * estimate
        return loss(target, estimate) / tf.reduce_mean(hidden)


def images(tf, around, slices, halo, width_hu=1400.0):
    """Images of one example from its noisy slices."""
    around = tf.constant(np.asarray(around, np.float32)[None, ..., None])
    inner = around[:, halo : around.shape[1] - halo]
    keys = tf.constant([[1, 2]])
    return Images(inner, inner, None, None, around, tf.constant([slices]), keys, width_hu)


def test_the_targets_are_the_slices_on_either_side(tf):
    given = images(tf, np.arange(5)[:, None, None] * np.ones((5, 8, 8)), range(3, 8), 1)
    for shift in (-1, 1):
        target, found = given.shifted(shift)
        assert target.numpy()[0, :, 0, 0, 0].tolist() == [1 + shift, 2 + shift, 3 + shift]
        assert found.numpy().ravel().tolist() == [1, 1, 1]


@pytest.mark.parametrize("flip", [1, -1])
def test_a_slice_that_is_reflected_onto_itself_is_no_target(tf, flip):
    # Slice 1 of a volume: two further up lies slice -1, which the reflection maps to slice 1.
    slices = [1, 0, 1, 2, 3][::flip]
    given = images(tf, np.ones((5, 8, 8)), slices, 2)
    assert given.shifted(-2 * flip)[1].numpy().item() == 0
    assert given.shifted(2 * flip)[1].numpy().item() == 1
    assert given.shifted(-1 * flip)[1].numpy().item() == 1


def test_the_value_is_the_mean_over_the_neighbours_that_exist(tf):
    around = np.array([5.0, 1.0, 3.0])[:, None, None] * np.ones((3, 8, 8))
    inside = ALL.values(lambda i: i.noisy, images(tf, around, [3, 4, 5], 1), losses.l1)
    assert inside.numpy().tolist() == [pytest.approx((4 + 2) / 2)]
    last = ALL.values(lambda i: i.noisy, images(tf, around, [3, 4, 9], 1), losses.l1)
    assert last.numpy().tolist() == [pytest.approx(4)]


def test_voxels_that_are_left_out_have_no_gradient(tf):
    around = np.array([0.1, 0.1, 0.9])[:, None, None] * np.ones((3, 16, 16))
    given = images(tf, around, [3, 4, 5], 1)
    for loss in (losses.mean_squared_error, losses.l1, 0.5 * losses.l1 + losses.ssim):
        estimate = tf.Variable(given.noisy + 0.01)
        with tf.GradientTape() as tape:
            values = NeighbourSlices().values(lambda _, e=estimate: e * 1.0, given, loss)
        both = tape.gradient(values, estimate)
        with tf.GradientTape() as tape:
            alone = loss(given.noisy, estimate * 1.0) / 2.0  # of the neighbour that agrees
        np.testing.assert_allclose(both, tape.gradient(alone, estimate), atol=1e-7)


@pytest.mark.parametrize("objective", [NeighbourSlices(1, 2, limit_mm=9), Noise2Void()], ids=str)
@pytest.mark.parametrize("changes", [{}, {"xla": True}, {"precision": "float16"}], ids=str)
def test_objectives_without_clean_images_learn_to_denoise(tf, cpu, volume, objective, changes):
    from engine.training.batches import feed
    from engine.training.state import TrainingState

    recipe = replace(tiny("unet2d", "network.width=8", "batch=4"), objective=objective)
    training = TrainingState(recipe, replace(cpu, **changes))
    examples = Examples(
        [volume], Crop((1, 32, 32)), recipe.noise, None, recipe.seed, objective.halo
    )
    errors = []
    with feed(examples, 4, cpu.strategy) as fed:
        for batch in fed.batches(0, 60):
            given = training.step.images(batch)
            error = training.model(given.inputs, training=False) - given.clean
            errors.append(float(tf.reduce_mean(tf.square(error))))
            assert np.isfinite(training.step(batch, tf.constant(3e-3)).loss)
    assert np.mean(errors[-5:]) < 0.2 * np.mean(errors[:2])


def test_the_objective_s_random_numbers_are_not_those_of_the_noise(tf, cpu, volume):
    from engine.training.batches import feed
    from engine.training.state import TrainingState

    recipe = tiny("unet2d", "noise.sigma=1.0", "batch=1")
    step = TrainingState(recipe, cpu).step
    examples = Examples([volume], Crop((1, 32, 32)), Gaussian(1.0), None, 0)
    with feed(examples, 1, cpu.strategy) as fed:
        given = step.images(next(fed.batches(0, 1)))
    noise = (given.noisy - given.clean).numpy().ravel()
    drawn = random_draws.normal(given.clean.shape[1:], given.keys[0]).numpy().ravel()
    assert abs(np.corrcoef(noise, drawn)[0, 1]) < 0.1


def test_networks_and_priors_that_see_the_target_are_refused():
    ours = NeighbourSlices()
    ours.refuse_network(UNet2D(), None)
    ours.refuse_network(UNet2D(), NeighbourMean(radius=0, of=Noisy()))
    ours.refuse_network(UNet2D(), NeighbourMean(radius=0, of=SliceTV()))
    with pytest.raises(ValueError, match="UNet3D sees the neighbouring slices"):
        ours.refuse_network(UNet3D(), None)
    for prior in (NeighbourMean(radius=1), NeighbourMean(radius=0, of=Clean())):
        with pytest.raises(ValueError, match="needs a prior of the slice itself"):
            ours.refuse_network(UNet2D(), prior)


def test_thick_slices_and_single_ones_are_refused():
    ours = NeighbourSlices(nearest=1, farthest=2, limit_mm=3.0)
    ours.refuse_scan((20, 64, 64), (1.5, 0.7, 0.7))
    with pytest.raises(ValueError, match=r"has targets 3.2 mm away, and slices more than 3 mm"):
        ours.refuse_scan((20, 64, 64), (1.6, 0.7, 0.7))
    with pytest.raises(ValueError, match="has 1 slices, fewer than the 2 needed"):
        ours.refuse_scan((1, 64, 64), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("fields", [(0, 1), (2, 1), (1, 1, -1.0), (1, 1, 30.0, 0.0)])
def test_impossible_neighbours_are_refused(fields):
    with pytest.raises(ValueError, match=r"objective\."):
        NeighbourSlices(*fields)


def test_the_supervised_objective_is_the_loss(tf):
    given = images(tf, np.ones((1, 8, 8)), [0], 0)
    found = Supervised().values(lambda i: i.noisy + 0.5, given, losses.l1)
    assert found.numpy().tolist() == [0.5]
