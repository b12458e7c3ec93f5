import numpy as np
import pytest

from engine.networks import ConvNet2D, DnCNN


@pytest.fixture
def average(tf):
    """Makes the average of a small network: the network, and what follows it."""
    from engine.training.average import Average

    def make(decay, network=None):
        network = network or ConvNet2D((2,))
        learned = network.build()
        return learned, Average(learned, network.build(seed=1), decay)

    return make


def values(model):
    return [variable.numpy() for variable in model.weights]


def learn(model, rng):
    for variable in model.weights:
        variable.assign(rng.standard_normal(variable.shape))


def test_it_begins_with_the_first_weights(average):
    learned, ours = average(0.9)
    for mine, theirs in zip(values(ours.model), values(learned), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_it_is_the_exponential_mean_of_the_weights_of_every_step(tf, average):
    learned, ours = average(0.8)
    rng, expected = np.random.default_rng(0), values(ours.model)
    for step in range(1, 61):
        learn(learned, rng)
        ours.update(tf.constant(True))
        kept = min(0.8, (1 + step) / (10 + step))
        expected = [
            kept * e + (1 - kept) * w for e, w in zip(expected, values(learned), strict=True)
        ]
    for mine, theirs in zip(values(ours.model), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_a_bad_step_changes_nothing(tf, average):
    learned, ours = average(0.5)
    before = {name: variable.numpy() for name, variable in ours.state.items()}
    learn(learned, np.random.default_rng(0))
    ours.update(tf.constant(False))
    for name, variable in ours.state.items():
        np.testing.assert_array_equal(variable.numpy(), before[name])


def test_statistics_of_batch_normalisation_are_averaged_too(tf, average):
    learned, ours = average(0.0, DnCNN(3, 2))
    learn(learned, np.random.default_rng(0))
    ours.update(tf.constant(True))
    assert any("moving_mean" in name for name in ours.state)
    for mine, theirs in zip(values(ours.model), values(learned), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_its_state_is_every_weight_by_name_and_the_count_of_steps(average):
    learned, ours = average(0.9)
    names = {f"average/{variable.path}" for variable in learned.weights}
    assert set(ours.state) == names | {"average_steps"}
