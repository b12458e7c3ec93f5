import numpy as np
import pytest

from engine import losses
from engine.scoring.metrics import scores
from volumes import Window


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


@pytest.mark.parametrize("loss", [losses.ssim, losses.charbonnier])
def test_new_losses_vanish_for_a_perfect_estimate(pair, loss):
    np.testing.assert_allclose(loss(pair[0], pair[0]), [0, 0], atol=1e-6)


def test_charbonnier_is_nearly_the_absolute_error_of_large_errors(pair):
    np.testing.assert_allclose(losses.charbonnier(*pair), [1.5, 0.5], atol=2e-3)


def test_the_ssim_loss_is_one_minus_the_ssim_of_the_scores(tf):
    rng = np.random.default_rng(0)
    clean = rng.random((2, 3, 16, 20, 1), np.float32)
    estimate = np.clip(clean + 0.1 * rng.standard_normal(clean.shape), 0, 1).astype(np.float32)
    found = losses.ssim(tf.constant(clean), tf.constant(estimate))
    wanted = [
        1 - scores(one[..., 0], other[..., 0], Window()).ssim
        for one, other in zip(clean, estimate, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_weighted_sum_is_a_loss(pair):
    total = 0.8 * losses.l1 + 0.2 * losses.mean_squared_error
    np.testing.assert_allclose(total(*pair), [0.8 * 1.5 + 0.2 * 4.5, 0.8 * 0.5 + 0.2 * 0.25])


def test_a_plain_function_can_be_added_on_either_side(pair):
    def bias(clean, estimate):
        return 0 * losses.l1(clean, estimate) + 7

    for total in (bias + 0.5 * losses.l1, losses.l1 + bias, 0.5 * (losses.l1 + bias)):
        assert [term.loss for term in total.terms].count(bias) == 1
    np.testing.assert_allclose((bias + 0.5 * losses.l1)(*pair), [7.75, 7.25])
    np.testing.assert_allclose((0.5 * (losses.l1 + bias))(*pair), [4.25, 3.75])


def test_sums_of_equal_terms_are_equal():
    total = 0.8 * losses.l1 + 0.2 * losses.ssim
    assert total == losses.parse_loss("0.8*mean_absolute_error + 0.2*ssim")
    assert total != losses.parse_loss("0.7*l1+0.2*ssim")
    assert losses.parse_loss("charbonnier") is losses.charbonnier


@pytest.mark.parametrize("text", ["l3", "0.8*", "x*l1", "l1+", "-1*l1", "nan*l1", ""])
def test_other_words_are_no_loss(text):
    with pytest.raises(ValueError, match=r"takes one of mean_squared_error.*not '"):
        losses.parse_loss(text)
