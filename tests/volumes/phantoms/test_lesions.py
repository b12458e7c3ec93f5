"""Lesions: where they are set into a slice."""

import numpy as np
import pytest

from volumes.phantoms.lesions import LESIONS, lesion_places

PIXEL_MM = 1.0


def tissue(size: int = 256) -> np.ndarray:
    """A body of 60 HU with a smooth and a rough half, in air, with a rim of fat."""
    at = np.arange(size) - (size - 1) / 2
    away = np.hypot(at[:, None], at)
    rough = np.where(at < 0, 40 * np.sin(at), 0) * np.ones((size, 1))
    return np.where(away < 110, 60 + rough, np.where(away < 118, -100, -1000))


def test_lesions_lie_apart_in_the_smooth_half_of_the_tissue() -> None:
    found = lesion_places(tissue(), PIXEL_MM)
    assert [(rod.diameter_mm, rod.hu) for rod in found] == list(LESIONS)
    for i, rod in enumerate(found):
        assert rod.x_mm > 0
        assert np.hypot(rod.x_mm, rod.y_mm) < 110
        # The region of an observer is three times as wide as the largest lesion.
        assert all(np.hypot(rod.x_mm - o.x_mm, rod.y_mm - o.y_mm) > 3 * 14 for o in found[:i])


def test_the_region_of_an_observer_about_a_lesion_is_soft_tissue() -> None:
    at = np.arange(128) - 63.5
    organ = np.where(np.hypot(at[:, None], at) < 45, 60, -100)
    found = lesion_places(organ, PIXEL_MM)
    assert found
    for rod in found:
        assert organ[rod.region(128, PIXEL_MM, 3 * 14)].min() == 60


@pytest.mark.parametrize("hu", [-1000, -90, 700])
def test_there_is_no_place_in_air_fat_or_bone(hu) -> None:
    assert lesion_places(np.full((128, 128), hu), PIXEL_MM) == ()
