import numpy as np
import pytest

from engine import losses


@pytest.fixture
def pair(tf):
    """Two examples of 2 x 2 x 2: one off by 3 in half of its voxels, one off by -0.5 in all."""
    clean = np.full((2, 2, 2, 2, 1), 0.25, np.float32)
    estimate = clean.copy()
    estimate[0, 0] += 3
    estimate[1] -= 0.5
    return tf.constant(clean), tf.constant(estimate)


def test_the_squared_error_is_one_mean_per_example(pair):
    np.testing.assert_allclose(losses.mean_squared_error(*pair), [4.5, 0.25])


def test_the_absolute_error_is_one_mean_per_example(pair):
    np.testing.assert_allclose(losses.mean_absolute_error(*pair), [1.5, 0.5])


@pytest.mark.parametrize("loss", [losses.mean_squared_error, losses.mean_absolute_error])
def test_a_perfect_estimate_has_zero_loss(pair, loss):
    np.testing.assert_array_equal(loss(pair[0], pair[0]), [0, 0])
