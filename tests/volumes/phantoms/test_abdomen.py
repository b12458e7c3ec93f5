from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from volumes.phantoms.abdomen import abdomen

SMALL = (12, 96, 96)
SEEDS = (0, 1, 2)


def draw(seed, shape=SMALL, spacing_mm=None):
    return abdomen(shape, rng=np.random.default_rng(seed), spacing_mm=spacing_mm)


@pytest.fixture(scope="module")
def patients():
    return [draw(seed)[0] for seed in SEEDS]


def inside(hu):
    """The body, eroded away from its skin: the largest connected part that is not air or table."""
    label, _ = ndimage.label(hu > -200)
    body = label == np.bincount(label.ravel())[1:].argmax() + 1
    filled = np.stack([ndimage.binary_fill_holes(one) for one in body])
    return ndimage.binary_erosion(filled, np.ones((1, 3, 3)))


def test_the_same_seed_draws_the_same_patient():
    np.testing.assert_array_equal(draw(5)[0], draw(5)[0])


def test_another_seed_draws_another_patient(patients):
    body = inside(patients[0])
    changed = np.abs(patients[0].astype(int) - patients[1])[body] > 20
    assert changed.mean() > 0.2


def test_the_global_generator_is_left_alone():
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    draw(0, (1, 16, 16))
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 64, 64), (5, 33, 47), (2, 1, 40), (3, 40, 1), (64, 24, 24)]
)
def test_any_shape_gives_int16_hu_within_the_range_of_a_scanner(shape):
    hu, _ = draw(1, shape)
    assert hu.shape == shape
    assert hu.dtype == np.int16
    assert hu.min() >= -1024
    assert hu.max() <= 1500


def test_the_field_of_view_is_380_mm_for_any_shape():
    assert draw(0, (1, 40, 80))[1] == pytest.approx((3.0, 9.5, 4.75))


def test_a_spacing_that_is_asked_for_is_kept():
    assert draw(0, (2, 32, 32), (1.5, 5.0, 6.0))[1] == (1.5, 5.0, 6.0)


def test_a_finer_spacing_shows_less_of_the_patient():
    wide, _ = draw(0, (1, 64, 64), (3.0, 6.0, 6.0))
    narrow, _ = draw(0, (1, 64, 64), (3.0, 2.0, 2.0))
    assert (wide < -950).mean() > 0.3
    assert (narrow < -950).mean() < 0.1


def test_air_around_the_patient_is_minus_1000(patients):
    for hu in patients:
        corners = np.concatenate([hu[:, :8, :8], hu[:, :8, -8:]])
        assert np.abs(corners + 1000).max() <= 5


def test_a_table_lies_behind_the_patient_and_nothing_in_front(patients):
    for hu in patients:
        body = np.flatnonzero(inside(hu).any(axis=(0, 2)))
        middle = hu[:, :, 40:56]
        behind, before = middle[:, body[-1] + 4 :], middle[:, : body[0] - 3]
        assert ((behind > -850) & (behind < -150)).any()
        assert (before < -990).all()


def test_there_is_bone_fat_soft_tissue_and_gas_in_plausible_shares(patients):
    for hu in patients:
        body = hu[inside(hu)]
        assert 0.0005 < (body > 400).mean() < 0.08
        assert 0.1 < ((body > -130) & (body < -70)).mean() < 0.6
        assert 0.25 < ((body > 0) & (body < 240)).mean() < 0.8
        assert 0.001 < (body < -500).mean() < 0.35


def test_the_liver_is_on_the_right_of_the_patient_where_x_begins():
    shares = []
    for seed in range(6):
        hu, _ = draw(seed, (6, 64, 64))
        organ = ndimage.binary_opening((hu > 90) & (hu < 130), np.ones((1, 3, 3)))
        shares.append(organ[:, :, :32].sum() / organ.sum())
    assert np.mean(shares) > 0.65


def test_the_spine_is_behind_the_middle_where_y_ends(patients):
    for hu in patients:
        bone = np.argwhere(hu[:, :, 36:60] > 350)
        assert bone[:, 1].mean() > 52


def test_neighbouring_slices_show_the_same_anatomy(patients):
    for hu in patients:
        windowed = np.clip(hu, -160, 240).astype(float)
        for a, b in pairwise(windowed):
            assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9


def test_slices_further_apart_differ_more(patients):
    for hu in patients:
        windowed = np.clip(hu, -160, 240).astype(float)
        near = np.abs(windowed[1:] - windowed[:-1]).mean()
        far = np.abs(windowed[8:] - windowed[:-8]).mean()
        assert far > 1.5 * near > 0


def test_thinner_slices_resemble_each_other_more():
    def step(spacing_z):
        hu, _ = draw(4, (4, 64, 64), (spacing_z, 380 / 64, 380 / 64))
        return np.abs(np.diff(np.clip(hu, -160, 240).astype(float), axis=0)).mean()

    assert step(1.0) < 0.7 * step(6.0)


def test_parenchyma_is_clean_yet_not_flat():
    for seed in SEEDS:
        hu, _ = draw(seed, (2, 256, 256))
        values = hu.astype(float)
        mean = ndimage.uniform_filter(values, (1, 5, 5))
        std = np.sqrt(np.maximum(ndimage.uniform_filter(values**2, (1, 5, 5)) - mean**2, 0))
        liver = ndimage.binary_erosion((hu > 85) & (hu < 135), np.ones((1, 7, 7)))
        assert liver.sum() > 500
        assert 0.5 < np.median(std[liver]) < 6


def test_texture_is_correlated_rather_than_white():
    hu, _ = draw(0, (1, 256, 256))
    organ = ndimage.binary_erosion((hu[0] > 85) & (hu[0] < 135), np.ones((9, 9)))
    detail = hu[0] - ndimage.uniform_filter(hu[0].astype(float), 7)
    left, right = detail[:, :-1], detail[:, 1:]
    both = organ[:, :-1] & organ[:, 1:]
    assert np.corrcoef(left[both], right[both])[0, 1] > 0.5
