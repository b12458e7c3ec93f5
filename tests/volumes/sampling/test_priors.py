from __future__ import annotations

import math

import numpy as np
import pytest

from volumes.sampling.priors import NeighbourMean, weighted_slices

CROPS = [(0, 12, 12), (0, 4, 12), (3, 5, 12), (8, 4, 12), (0, 1, 1), (0, 3, 3), (5, 1, 40)]


def naive(prior, volume, spacing_z_mm):
    """The prior of every slice of a (Z, ...) volume, from its definition."""
    result = []
    for i in range(len(volume)):
        total, weight = np.zeros(volume.shape[1:]), 0.0
        for k in range(-prior.radius, prior.radius + 1):
            if 0 <= i + k < len(volume):
                w = math.exp(-prior.decay * abs(k) - prior.decay_per_mm * abs(k) * spacing_z_mm)
                total, weight = total + w * volume[i + k], weight + w
        result.append(total / weight)
    return np.stack(result)


@pytest.mark.parametrize(("first", "length", "depth"), CROPS)
@pytest.mark.parametrize("radius", [0, 1, 4, 9])
def test_the_weights_of_every_slice_sum_to_1(radius, first, length, depth):
    weights = NeighbourMean(radius, 0.1, 0.2).weights(first, length, depth, 2.5)
    assert weights.shape == (length, length + 2 * radius)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize(("first", "length", "depth"), CROPS)
@pytest.mark.parametrize(
    "prior", [NeighbourMean(), NeighbourMean(1, 0.0), NeighbourMean(3, 0.5), NeighbourMean(2, 0, 1)]
)
def test_the_prior_matches_its_definition(prior, first, length, depth):
    halo, spacing_z_mm = prior.halo, 0.8
    volume = np.random.default_rng(0).normal(size=(depth, 3, 2))
    # Values beyond the volume must not matter, however large.
    around = np.pad(volume, ((halo, halo), (0, 0), (0, 0)), constant_values=1e9)
    block = around[first : first + length + 2 * halo]
    weights = prior.weights(first, length, depth, spacing_z_mm)
    expected = naive(prior, volume, spacing_z_mm)[first : first + length]
    np.testing.assert_allclose(np.tensordot(weights, block, 1), expected, atol=1e-6)


def test_inside_the_volume_the_weights_are_centred_and_symmetric():
    weights = NeighbourMean(radius=4, decay=0.3).weights(10, 6, 40, 1.0)
    for i, row in enumerate(weights):
        own = row[i : i + 9]
        assert own.argmax() == 4
        np.testing.assert_array_equal(own, own[::-1])
        assert np.delete(row, np.arange(i, i + 9)).sum() == 0


def test_the_first_and_the_last_slice_mirror_each_other():
    weights = NeighbourMean(radius=3, decay=0.2).weights(0, 10, 10, 1.0)
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])


def test_the_reference_s_weights_fall_by_4_percent_a_slice():
    (row,) = NeighbourMean().weights(20, 1, 41, 3.0)
    np.testing.assert_allclose(row[5:] / row[4:-1], 4 * [math.exp(-0.04)], rtol=1e-6)


def test_a_decay_per_millimetre_gives_the_same_weight_to_the_same_distance():
    prior = NeighbourMean(radius=4, decay=0.0, decay_per_mm=0.1)
    (thin,), (thick,) = prior.weights(20, 1, 41, 1.0), prior.weights(20, 1, 41, 2.0)
    assert thin[4 + 2] / thin[4] == pytest.approx(thick[4 + 1] / thick[4], rel=1e-6)
    assert thin[4 + 4] / thin[4] == pytest.approx(thick[4 + 2] / thick[4], rel=1e-6)


def test_a_decay_per_slice_does_not_depend_on_the_spacing():
    prior = NeighbourMean(radius=4, decay=0.1)
    np.testing.assert_array_equal(prior.weights(0, 9, 9, 0.5), prior.weights(0, 9, 9, 8.0))


def test_weights_inside_the_volume_do_not_depend_on_the_place():
    shifted = NeighbourMean(2).weights(5, 4, 20, 1.0)
    np.testing.assert_array_equal(shifted, NeighbourMean(2).weights(9, 4, 20, 1.0))


def test_slices_that_barely_weigh_leave_the_slice_itself():
    weights = NeighbourMean(radius=2, decay=0, decay_per_mm=1e6).weights(0, 5, 5, 5.0)
    np.testing.assert_array_equal(weights, np.eye(5, 9, 2))


@pytest.mark.parametrize("fields", [{"radius": -1}, {"decay": -0.1}, {"decay_per_mm": -1.0}])
def test_an_impossible_prior_is_refused(fields):
    with pytest.raises(ValueError, match=r"prior\.(radius|decay)"):
        NeighbourMean(**fields)


def test_the_accelerator_weighs_slices_as_numpy_does(cpu):
    rng = np.random.default_rng(0)
    prior = NeighbourMean(3, 0.1)
    weights = np.stack([prior.weights(0, 5, 20, 1.0), prior.weights(15, 5, 20, 1.0)])
    slices = rng.random((2, 11, 7, 3, 1)).astype(np.float32)
    expected = np.stack([np.tensordot(w, s, 1) for w, s in zip(weights, slices, strict=True)])
    result = weighted_slices(weights, slices).numpy()
    assert result.shape == (2, 5, 7, 3, 1)
    np.testing.assert_allclose(result, expected, atol=1e-6)
