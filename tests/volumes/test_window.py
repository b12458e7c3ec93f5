from __future__ import annotations

import numpy as np
import pytest

from volumes.window import Window

EVERY_HU = np.arange(-32768, 32768, dtype=np.int16)


def test_the_ends_of_the_window_become_0_and_1():
    np.testing.assert_array_equal(Window(-160.0, 240.0).unit([-160, 240, 40]), [0.0, 1.0, 0.5])


def test_one_unit_is_the_width_of_the_window():
    assert Window(-1000, 400).width_hu == 1400


@pytest.mark.parametrize("clip", [True, False])
def test_hu_beyond_the_window_go_beyond_0_and_1(clip):
    unit = Window(-1000, 0, clip).unit(np.array([-3000, 1000]))
    np.testing.assert_array_equal(unit, np.float32([-2, 2]))


@pytest.mark.parametrize("window", [Window(), Window(-160, 240), Window(-1024, 3071)])
def test_every_int16_comes_back_from_window_units(window):
    back = window.hu(window.unit(EVERY_HU))
    assert back.dtype == np.float32
    np.testing.assert_array_equal(np.rint(back), EVERY_HU)


def test_the_map_is_linear():
    unit = Window(-1000, 400).unit(EVERY_HU[::7]).astype(np.float64)
    np.testing.assert_allclose(np.diff(unit), 7 / 1400, atol=3e-6)


@pytest.mark.parametrize(("low", "high"), [(0, 0), (400, -1000), (float("nan"), 0)])
def test_a_window_without_width_is_refused(low, high):
    with pytest.raises(ValueError, match=r"window\.low_hu must lie below"):
        Window(low, high)


def test_clean_voxels_are_clipped_to_the_window(cpu):
    unit = Window(-1000, 400).clean(np.int16([-3024, -1000, -300, 400, 3071])).numpy()
    np.testing.assert_allclose(unit, [0, 0, 0.5, 1, 1], atol=1e-6)


def test_clean_voxels_keep_bone_where_the_window_does_not_clip(cpu):
    window = Window(-1000, 400, clip=False)
    hu = np.int16([-3024, -1000, -300, 400, 3071])
    np.testing.assert_allclose(window.clean(hu).numpy(), window.unit(hu), atol=1e-6)


def test_scans_are_shown_as_soft_tissue_and_greys_whole():
    assert (Window().unit_name, Window().shown) == ("HU", (-160, 240))
    greys = Window(low_hu=0, high_hu=255, clip=False)
    assert (greys.unit_name, greys.shown) == ("grey", (0, 255))
