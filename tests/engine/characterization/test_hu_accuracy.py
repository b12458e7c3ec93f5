"""HU accuracy of rods, and the uniformity of water."""

import numpy as np
import pytest

from engine.characterization.hu_accuracy import hu_accuracy, nonuniformity_hu
from volumes import random_draws
from volumes.phantoms.rods import Rod, RodPhantom

ROD = Rod("acrylic", 8.0, 5.0, 12.0, 120.0)
WATER = RodPhantom("water", 60.0, (ROD,))


def test_the_bias_of_a_rod_is_found_without_its_edge() -> None:
    image = WATER.image(80, 0.8)
    rng = random_draws.rng(0, "test of the hu accuracy")
    stack = image - 3.0 + 10 * rng.standard_normal((50, 80, 80))
    found = hu_accuracy(stack, ROD, 0.8)
    # 64 pixels lie within 3.6 mm: the error is 10 / sqrt(50 * 64) = 0.18 HU.
    assert found.standard_error_hu == pytest.approx(0.18, rel=0.4)
    assert found.bias_hu == pytest.approx(-3.0, abs=4 * 0.18)
    assert found.half_width_hu == pytest.approx(2.0096 * found.standard_error_hu, rel=1e-4)


def test_the_error_counts_images_that_share_noise_once() -> None:
    rng = random_draws.rng(0, "test of the hu accuracy", "shared")
    alone = WATER.image(80, 0.8) + 10 * rng.standard_normal((98, 80, 80))
    mean = np.stack([alone[i : i + 9].mean(axis=0) for i in range(90)])
    found = hu_accuracy(mean, ROD, 0.8, 4)
    assert found.standard_error_hu > 1.5 * hu_accuracy(mean, ROD, 0.8).standard_error_hu
    assert found.within == pytest.approx(2.262, abs=0.001)  # Student's t for 10 blocks of 9


def test_the_nonuniformity_of_cupping_is_the_difference_of_edge_and_centre() -> None:
    body = RodPhantom("water", 60.0).body
    cup = 10 * (body.distance_mm(80, 0.8) / 30) ** 2
    # All discs add the same half of their squared radius, which the difference removes.
    assert nonuniformity_hu(cup, body, 0.8) == pytest.approx(10 * 0.66**2, rel=0.02)
    assert nonuniformity_hu(-cup, body, 0.8) == pytest.approx(-10 * 0.66**2, rel=0.02)
