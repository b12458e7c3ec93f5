"""The gradient against a dense matrix, total variation against another solver."""

import numpy as np
import pytest
from skimage.restoration import denoise_tv_chambolle

from volumes import total_variation


@pytest.fixture(autouse=True)
def _tensorflow(cpu):
    """The solver is TensorFlow's."""


def batch(*images):
    """(B, Z, Y, X, 1) of arrays (Z, Y, X)."""
    return np.stack(images).astype(np.float32)[..., None]


def differences(shape, weight_z):
    """The gradient as a dense matrix, (3 voxels, voxels): made of no slices and no padding."""
    step = [np.vstack([np.diff(np.eye(n), axis=0), np.zeros((1, n))]) for n in shape]
    one = [np.eye(n) for n in shape]
    z = np.kron(np.kron(step[0], one[1]), one[2])
    y = np.kron(np.kron(one[0], step[1]), one[2])
    x = np.kron(np.kron(one[0], one[1]), step[2])
    return np.vstack([weight_z * z, y, x])


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 2)])
def test_the_divergence_is_the_negative_adjoint_of_the_gradient(shape):
    rng = np.random.default_rng(0)
    u, *dual = (rng.standard_normal(shape, np.float32) for _ in range(4))
    slope = total_variation.gradient(batch(u), 0.7)
    inner = sum(np.vdot(d, p) for d, p in zip(slope, dual, strict=True))
    outer = np.vdot(u, total_variation.divergence(tuple(map(batch, dual)), 0.7))
    assert inner == pytest.approx(-outer, rel=1e-5)
    assert abs(inner) > 0.1  # it is no comparison of nothing with nothing


def test_the_gradient_is_that_of_a_dense_matrix():
    u = np.random.default_rng(0).standard_normal((3, 4, 5), np.float32)
    found = np.concatenate([np.ravel(part) for part in total_variation.gradient(batch(u), 0.5)])
    np.testing.assert_allclose(found, differences(u.shape, 0.5) @ u.ravel(), atol=1e-6)


def test_each_image_of_a_batch_is_smoothed_by_its_own_weight():
    rng = np.random.default_rng(0)
    images = [rng.random((1, 17, 23)) for _ in range(2)]
    weights = np.array([0.05, 0.2], np.float32).reshape(2, 1, 1, 1, 1)
    found = total_variation.minimiser(batch(*images), ((weights, None),), 0.0, 400)
    for each, image, weight in zip(found.numpy()[..., 0], images, (0.05, 0.2), strict=True):
        expected = denoise_tv_chambolle(image[0], weight=weight, eps=1e-9, max_num_iter=2000)
        np.testing.assert_allclose(each[0], expected, atol=2e-3)


def test_slices_are_kept_apart_by_a_weight_of_zero():
    volume = np.random.default_rng(0).random((4, 9, 9))
    whole = total_variation.minimiser(batch(volume), ((0.1, None),), 0.0, 50).numpy()
    alone = total_variation.minimiser(batch(volume[1:2]), ((0.1, None),), 0.0, 50).numpy()
    np.testing.assert_allclose(whole[:, 1:2], alone, atol=1e-6)
