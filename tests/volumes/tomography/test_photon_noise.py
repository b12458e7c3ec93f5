import numpy as np
import pytest

from volumes.tomography.photon_noise import Dose


def rays(p, views=60, bins=400):
    return np.full((views, bins), p, np.float32)


def read(dose, integrals, seed=0, case="a", index=0):
    return dose.measure(integrals, seed, case, index)


@pytest.mark.parametrize("photons", [7e4, 1e6])
@pytest.mark.parametrize("p", [0.0, 1.0, 4.0])
def test_the_variance_of_a_line_integral_is_one_over_its_photons(photons, p):
    found = read(Dose(photons), rays(p)).integrals.astype(np.float64)
    expected = photons * np.exp(-p)
    assert found.var() == pytest.approx(1 / expected, rel=0.05)  # of 24,000 rays: 5.5 deviations
    assert found.mean() == pytest.approx(p, abs=5 * (expected * found.size) ** -0.5 + 1 / expected)


def test_photons_are_counted_whole():
    counts = 1e3 * np.exp(-read(Dose(1e3), rays(3.0)).integrals.astype(np.float64))
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3)


def test_the_noise_of_two_rays_is_uncorrelated():
    noise = read(Dose(1e4), rays(1.0)).integrals - 1
    for axis in (0, 1):
        r = np.corrcoef(noise.ravel(), np.roll(noise, 1, axis).ravel())[0, 1]
        assert abs(r) < 5 / noise.size**0.5


def test_electronic_noise_adds_its_variance_where_few_photons_arrive():
    found = read(Dose(1e5, electronic=10), rays(5.0)).integrals
    expected = 1e5 * np.exp(-5)
    assert found.var() == pytest.approx((expected + 100) / expected**2, rel=0.05)


def test_rays_without_a_photon_are_counted_and_read_the_floor():
    reading = read(Dose(10, floor=0.1), rays(3.0))
    assert reading.starved.mean() == pytest.approx(np.exp(-10 * np.exp(-3)), rel=0.05)
    np.testing.assert_array_equal(reading.floored, reading.starved)
    np.testing.assert_allclose(reading.integrals[reading.starved], np.log(100), rtol=1e-6)
    assert np.isfinite(reading.integrals).all()


def test_readings_that_electronics_pull_below_the_floor_are_counted_apart():
    reading = read(Dose(1e3, electronic=20, floor=0.5), rays(5.0))
    assert 0 < reading.starved.sum() < reading.floored.sum() < reading.starved.size
    np.testing.assert_allclose(reading.integrals.max(), np.log(1e3 / 0.5), rtol=1e-6)


def test_a_full_dose_starves_no_ray():
    reading = read(Dose(1e6), rays(5.5))
    assert not reading.starved.any()
    assert not reading.floored.any()


def test_the_same_key_gives_the_same_noise():
    one, other = read(Dose(), rays(1.0)), read(Dose(), rays(1.0))
    np.testing.assert_array_equal(one.integrals, other.integrals)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"case": "b"}, {"index": 1}, {"dose": Dose(2e5)}], ids=str
)
def test_another_seed_case_slice_or_dose_has_other_noise(other):
    dose = other.pop("dose", Dose(1e5))
    one = read(Dose(1e5), rays(1.0)).integrals - 1
    two = read(dose, rays(1.0), **other).integrals - 1
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 5 / one.size**0.5


def test_thinned_views_keep_their_photons():
    reading = read(Dose(30), rays(2.0))
    thinned = reading.every(6)
    np.testing.assert_array_equal(thinned.integrals, reading.integrals[::6])
    assert thinned.starved.sum() == reading.starved[::6].sum()
    assert thinned.floored.shape == (10, 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("photons", 0), ("photons", -1e5), ("photons", float("inf")), ("photons", float("nan")),
        ("electronic", -1), ("electronic", float("nan")), ("floor", 0), ("floor", 1e5),
    ],
)  # fmt: skip
def test_an_impossible_dose_is_refused_by_the_name_of_its_field(field, value):
    with pytest.raises(ValueError, match=f"{field} must"):
        Dose(**{field: value})
