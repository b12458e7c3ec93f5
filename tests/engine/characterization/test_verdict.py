"""Verdict: what its sentences say of the images is true."""

from dataclasses import replace

import numpy as np
import pytest

from engine.characterization.characteristics import Characteristics
from engine.characterization.stack_blocks import halves
from engine.characterization.verdict import about_readers
from engine.scoring.noise_power import NoisePower
from volumes import random_draws

FLAT = Characteristics("tv", 1e5, NoisePower(np.ones((4, 4)), (1, 1), 1), 0.0, {}, {}, {}, 30.0)


def found(*reaches: int) -> dict[str, dict[float, Characteristics]]:
    return {str(i): {1e5: replace(FLAT, reach=reach)} for i, reach in enumerate(reaches)}


def test_without_a_reach_each_half_of_the_images_trains_a_reader() -> None:
    assert "trained on 100 images with and 100 without" in about_readers(found(0, 0), 201)
    assert "tested on the other 101 of each" in about_readers(found(0, 0), 201)


@pytest.mark.parametrize("count", [200, 201])
def test_the_images_beside_the_cuts_train_and_test_no_reader(count) -> None:
    text = about_readers(found(0, 1, 4), count)
    rng = random_draws.rng(0, "test of the verdict")
    drawn = [[len(half) for half in halves(count, rng, 4)] for _ in range(300)]
    trained, tested = np.min(drawn, axis=0)
    assert f"on at least {trained} images with and {trained} without the signal" in text
    assert f"on at least {tested} others of each" in text
