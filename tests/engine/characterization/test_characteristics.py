"""Characteristics: noise of ensembles, and PSNR."""

import numpy as np
import pytest

from engine.characterization.characteristics import (
    noise_of,
    psnr_db,
    transfer_for,
    transfers_of,
)
from engine.characterization.ensembles import ensemble_sigma
from volumes import random_draws
from volumes.phantoms.rods import Rod, RodPhantom

PIXEL_MM, SIZE = 1.0, 112
WATER = RodPhantom("water", 100.0)
RODS = RodPhantom("rods", 100.0, (Rod("strong", 20, 0, 12, 300), Rod("weak", -20, 0, 12, 10)))


def noisy(phantom: RodPhantom, count: int, sigma_hu: float) -> np.ndarray:
    rng = random_draws.rng(0, "test of the characteristics")
    noise = sigma_hu * rng.standard_normal((count, SIZE, SIZE))
    return (phantom.image(SIZE, PIXEL_MM) + noise).astype(np.float32)


def test_the_noise_is_that_of_the_realisations_without_their_mean_and_without_bias() -> None:
    # A slope in every image is no noise. With 4 images, a quarter of the variance would be lost.
    slope = np.linspace(0, 200, SIZE, dtype=np.float32)
    found = noise_of(noisy(WATER, 4, 20.0) + slope, WATER, PIXEL_MM)
    # 5 regions of 23^2 pixels with 3 degrees of freedom: 4 standard errors are 3 %.
    assert found.sigma_hu == pytest.approx(20.0, rel=0.03)
    body = WATER.body.distance_mm(SIZE, PIXEL_MM) < 45
    assert ensemble_sigma(noisy(WATER, 4, 20.0) + slope, body) == pytest.approx(20.0, rel=0.02)


@pytest.mark.parametrize("count", [20, 50])
def test_the_noise_of_a_mean_over_neighbours_is_found_although_its_images_share_noise(
    count,
) -> None:
    alone = noisy(WATER, count + 8, 20.0)
    mean = np.stack([alone[i : i + 9].mean(axis=0) for i in range(count)])
    # As if the images were independent, it would be 26 % (20 images) or 8 % (50) too low.
    assert noise_of(mean, WATER, PIXEL_MM, 4).sigma_hu == pytest.approx(20 / 3, rel=0.09)


def test_the_noise_of_an_edge_counts_images_that_share_noise_once() -> None:
    alone = noisy(RODS, 98, 20.0)
    mean = np.stack([alone[i : i + 9].mean(axis=0) for i in range(90)])
    claimed, true = (
        1 / transfers_of(mean, RODS, PIXEL_MM, reach)["strong"].cnr for reach in (0, 4)
    )
    # The variance is 9 times that of independent images.
    assert true / claimed == pytest.approx(3, rel=0.1)


def test_only_edges_that_stand_out_of_the_noise_are_measured() -> None:
    found = transfers_of(noisy(RODS, 20, 20.0), RODS, PIXEL_MM)
    assert found["strong"].measurable
    assert not found["weak"].measurable  # 10 HU in 20 / sqrt(20) HU
    assert transfer_for(5.0, found) is found["strong"]
    assert transfer_for(5.0, {"weak": found["weak"]}) is None


def test_a_weak_edge_is_measured_in_enough_realisations() -> None:
    assert transfers_of(noisy(RODS, 200, 20.0), RODS, PIXEL_MM)["weak"].measurable


def test_psnr_counts_a_range_of_1400_hu_within_the_mask() -> None:
    true = WATER.image(SIZE, PIXEL_MM)
    stack = np.stack([true + 14, true - 14])
    stack[:, :10] += 500  # outside the body
    body = WATER.body.distance_mm(SIZE, PIXEL_MM) < 45
    assert psnr_db(stack, true, body) == pytest.approx(40)
