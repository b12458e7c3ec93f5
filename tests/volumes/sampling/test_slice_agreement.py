import numpy as np
import pytest

from volumes.sampling.slice_agreement import agreeing


@pytest.fixture
def noise(cpu):
    """The difference of two slices under noise of a standard deviation, in HU."""

    def make(sigma_hu, shape=(1, 2, 64, 64, 1)):
        rng = np.random.default_rng(0)
        return (sigma_hu * 2**0.5 * rng.standard_normal(shape)).astype(np.float32)

    return make


@pytest.mark.parametrize("sigma_hu", [5, 70, 300])
def test_noise_alone_leaves_nearly_no_voxel_out(noise, sigma_hu):
    kept = agreeing(noise(sigma_hu), 30.0).numpy()
    assert kept.mean() > 0.985
    assert kept[:, :, 0].mean() > 0.95  # also at the borders, where there are fewer pixels


def test_other_anatomy_is_left_out(noise):
    difference = noise(70)
    difference[:, :, 20:40, 20:40] += 280
    kept = agreeing(difference, 30.0).numpy()
    assert kept[:, :, 22:38, 22:38].max() == 0
    assert kept[:, :, 46:].mean() > 0.98


def test_slices_that_differ_by_less_than_the_limit_agree_everywhere(noise):
    assert agreeing(0 * noise(1) + 29, 30.0).numpy().all()
    assert not agreeing(0 * noise(1) + 31, 30.0).numpy().any()
