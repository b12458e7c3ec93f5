"""Quality phantoms: what is published about them."""

import math

import pytest

from volumes.phantoms.quality_phantoms import CCT189, CTP404, QUALITY_PHANTOMS


def test_the_rods_of_cct189_are_those_of_the_fda() -> None:
    assert [(rod.diameter_mm, rod.hu) for rod in CCT189.rods] == [(3, 14), (5, 7), (7, 5), (10, 3)]
    for rod in CCT189.rods:
        assert math.hypot(rod.x_mm, rod.y_mm) == pytest.approx(40)
    assert (CCT189.diameter_mm, CCT189.hu) == (200, 0)


def test_air_is_at_the_top_and_ldpe_on_the_right_of_ctp404() -> None:
    rods = {rod.name: rod for rod in CTP404.rods}
    assert (rods["air"].x_mm, rods["air"].y_mm) == pytest.approx((0, -58.7))
    assert (rods["LDPE"].x_mm, rods["LDPE"].y_mm) == pytest.approx((58.7, 0))
    assert rods["Teflon"].hu == 990
    assert rods["bead"].diameter_mm == 0.5


@pytest.mark.parametrize("name", QUALITY_PHANTOMS)
def test_the_modules_of_a_phantom_can_be_told_apart(name) -> None:
    one = QUALITY_PHANTOMS[name]
    modules = (one.contrast, one.low_contrast, one.uniform)
    assert len({module.name for module in modules}) == 3
    assert not one.uniform.rods
    # The observer compares both: they differ by the rods alone.
    assert (one.low_contrast.diameter_mm, one.low_contrast.hu) == (
        one.uniform.diameter_mm, one.uniform.hu,
    )  # fmt: skip
    for module in modules:
        assert len({rod.name for rod in module.rods}) == len(module.rods)
