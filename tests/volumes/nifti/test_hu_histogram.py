import numpy as np
import pytest

from volumes.nifti import open_scan
from volumes.nifti.hu_histogram import Histogram

SHAPE = (6, 48, 48)


def scan(seed=0, noise_hu=20.0):
    """(6, 48, 48) HU of soft tissue, fat and bone in air."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    slice_ = np.where(y**2 + x**2 < 0.7, -100.0, -1000.0)
    slice_[y**2 + x**2 < 0.5] = 40
    slice_[(y - 0.3) ** 2 + x**2 < 0.02] = 700
    return slice_ + np.random.default_rng(seed).normal(0, noise_hu, SHAPE)


def counted(values, pieces=1):
    histogram = Histogram()
    for piece in np.array_split(np.rint(values), pieces):
        histogram.add(piece)
    return histogram


def circle(values, constant):
    """The values with a constant outside of the largest circle."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    return np.where(y**2 + x**2 > 1, constant, values)


@pytest.mark.parametrize("noise_hu", [3, 20, 140, 280])
@pytest.mark.parametrize("constant", [-1000, -1024, -2000, -3024])
def test_a_scan_is_plausible_under_noise_and_in_any_padding(noise_hu, constant):
    found = counted(circle(scan(0, noise_hu), constant))
    assert found.other_unit() is None
    assert found.oddity() == ""


def test_the_pieces_in_which_values_come_do_not_matter():
    twice = scan() - 1024
    assert counted(twice, 5).other_unit() == counted(twice).other_unit() is not None


@pytest.mark.gate("G7")
def test_an_intercept_that_is_missing_or_applied_twice_is_told_with_its_remedy(faults) -> None:
    missing = ("as if its intercept of -1024 was missing", "Subtract 1,024 from its values")
    twice = ("as if its intercept of -1024 was applied twice", "Add 1,024 to its values")
    for seed in range(faults.times(push=10, soak=100)):
        draw = np.random.default_rng(seed)
        noise_hu, constant = draw.uniform(5, 60), int(draw.choice((-2048, -2000, -1024, 0)))
        body = scan(seed, noise_hu)
        for values, told in ((body - 1024, twice), (circle(body - 1024, constant), twice),
                             (np.maximum(body + 1024, 0), missing),
                             (circle(np.maximum(body + 1024, 0), constant), missing)):  # fmt: skip
            assert counted(values).other_unit() == told, (seed, noise_hu, constant)
            faults.handled()


def test_a_lost_slope_is_seen_by_the_place_of_air():
    assert "a sharp peak at -100, and air has -1000" in counted(scan() / 10).oddity()
    told = "of its values are below -400, but air has no peak at -1000"
    assert counted(scan() / 2).oddity().endswith(told)


def test_fat_without_air_is_no_lost_slope():
    fat = np.random.default_rng(0).normal(-104, 7, SHAPE)
    assert counted(fat).oddity() == ""


def test_phases_are_seen_by_the_share_below_all_padding():
    phase = np.random.default_rng(0).integers(-4096, 4096, SHAPE)
    share = np.mean(phase < -2000)
    told = f"{share:.1%} of its values are below -2000 and are no padding"
    assert counted(phase).oddity() == told


def test_few_values_are_not_judged():
    assert counted(np.where(np.arange(4096) % 2, 0.0, -3000.0)).oddity() == ""
    assert counted(scan()[0, :16, :16] - 2048).oddity() == ""
    assert Histogram().oddity() == ""


def test_steps_of_a_coarse_slope_are_no_constants():
    coarse = 16 * np.rint(scan() / 16)
    assert counted(coarse).oddity() == ""
    assert "applied twice" in counted(coarse - 1024).other_unit()[0]


@pytest.mark.real_ct
def test_no_real_ct_is_odd_whole_or_cropped_or_under_noise(real_ct):
    draw = np.random.default_rng(0)
    for path in sorted(real_ct.parent.rglob("*.nii.gz")):
        stored = open_scan(path)
        hu = stored.canonical(stored.hu(stored.read()))[::4]
        z, y, x = (int(draw.integers(0, n - min(n, 64) + 1)) for n in hu.shape)
        crop = hu[:, y : y + 64, x : x + 64]
        noisy = hu + draw.normal(0, 280, hu.shape)
        for each in (hu, noisy, crop):
            found = counted(each)
            assert (found.other_unit(), found.oddity()) == (None, ""), (path, z, y, x)
