import dataclasses
import json

import numpy as np
import pytest

from volumes import nifti
from volumes.phantoms.abdomen import abdomen
from volumes.tomography.geometry import FanBeam, Parallel
from volumes.tomography.photon_noise import Dose
from volumes.tomography.scanner import Acquisition, Scanner, circle

SIZE, PIXEL_MM = 96, 3.6  # as wide as a patient
FAN = FanBeam(180, 161, 35.0, 187.5)
SCANNER = Scanner(FAN)
CLEAN = Acquisition(dose=None)


@pytest.fixture(scope="module", autouse=True)
def _tf(cpu):
    """Scanners need TensorFlow."""


@pytest.fixture(scope="module")
def slice_hu():
    """(96, 96) of a phantom, smooth as what is resampled to such pixels."""
    hu, _ = abdomen((1, 3 * SIZE, 3 * SIZE), rng=np.random.default_rng(0), spacing_mm=(3, 1.2, 1.2))
    return hu[0].reshape(SIZE, 3, SIZE, 3).mean((1, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def sinogram(slice_hu):
    return SCANNER.project(slice_hu, PIXEL_MM)


def water(shape=(SIZE, SIZE), radius_mm=130.0, pixel_mm=PIXEL_MM):
    """A cylinder of water in air."""
    at = [np.arange(n) - (n - 1) / 2 for n in shape]
    away = np.hypot(at[0][:, None], at[1]) * pixel_mm
    return np.float32(1000) * np.clip((radius_mm - away) / pixel_mm + 0.5, 0, 1) - 1000


def scan(sinogram, *acquisitions, seed=0, case="a", index=0, scanner=SCANNER):
    return scanner.scan(sinogram, acquisitions, seed, case, index)


def rmse(image, wanted, where=None):
    where = circle(wanted.shape) if where is None else where
    return float(np.sqrt(np.mean((image.hu - wanted)[where] ** 2)))


def low(photons):
    return Acquisition(Dose(photons))


def sparse(views):
    return Acquisition(Dose(1e6), views)


# -- What comes back -------------------------------------------------------------------------------


def test_without_noise_a_slice_comes_back_but_for_its_edges(slice_hu, sinogram):
    assert rmse(*scan(sinogram, CLEAN), slice_hu) < 35
    flat = rmse(*scan(SCANNER.project(water(), PIXEL_MM), CLEAN), np.zeros((SIZE, SIZE)),
                water(radius_mm=110) == 0)  # fmt: skip
    assert flat < 5


def test_water_reads_0_hu_and_air_minus_1000_for_any_pixel_size(slice_hu):
    for pixel_mm in (0.5, 3.6):
        sinogram = SCANNER.project(water(radius_mm=36 * pixel_mm, pixel_mm=pixel_mm), pixel_mm)
        (image,) = scan(sinogram, CLEAN)
        assert image.hu[38:58, 38:58].mean() == pytest.approx(0, abs=2)
        assert image.hu[2:6, 40:56].mean() == pytest.approx(-1000, abs=8)
        assert sinogram.largest == pytest.approx(72 * pixel_mm * 0.01931, rel=0.02)


def test_a_full_scan_of_512_pixels_comes_back_within_15_hu():
    hu, (_, pixel_mm, _) = abdomen((1, 512, 512), rng=np.random.default_rng(1))
    scanner = Scanner()
    (image,) = scan(scanner.project(hu[0], pixel_mm), CLEAN, scanner=scanner)
    assert rmse(image, np.maximum(hu[0], -1000)) < 15


def test_dense_things_are_not_clipped_to_any_window():
    hu = water()
    hu[40:52, 40:52] = 3000
    (image,) = scan(SCANNER.project(hu, PIXEL_MM), CLEAN)
    assert image.hu[44:48, 44:48].mean() == pytest.approx(3000, rel=0.02)


def test_what_lies_below_air_is_air():
    hu = np.where(water() > -500, water(), -1000)
    lower = np.where(hu == -1000, -1024, hu)
    wanted = SCANNER.project(hu, PIXEL_MM)
    np.testing.assert_array_equal(SCANNER.project(lower, PIXEL_MM).integrals, wanted.integrals)


# -- The circle ------------------------------------------------------------------------------------


def test_outside_of_the_circle_there_is_air_before_and_after(slice_hu):
    full = slice_hu.copy()
    full[~circle(full.shape)] = 500
    wanted = SCANNER.project(slice_hu, PIXEL_MM)
    found = SCANNER.project(full, PIXEL_MM)
    np.testing.assert_array_equal(found.integrals, wanted.integrals)
    (image,) = scan(found, low(1e4))
    assert (image.hu[~circle(full.shape)] == -1000).all()


def test_the_circle_touches_the_sides_and_leaves_the_corners():
    for size in (1, 2, 5, 64, 65):
        seen = circle((size, size))
        assert seen[size // 2].all()
        assert seen[:, size // 2].all()
        assert seen.mean() == pytest.approx(np.pi / 4, abs=1.5 / size)
        np.testing.assert_array_equal(seen, seen[::-1].T)


@pytest.mark.parametrize("shape", [(64, 96), (96, 63), (96, 1)])
def test_a_slice_that_is_not_square_is_scanned_in_a_square_of_air(shape):
    hu = water()
    first = [(SIZE - n) // 2 for n in shape]
    inside = tuple(slice(f, f + n) for f, n in zip(first, shape, strict=True))
    framed = np.full_like(hu, -1000)
    framed[inside] = hu[inside]
    found, wanted = (SCANNER.project(part, PIXEL_MM) for part in (hu[inside], framed))
    np.testing.assert_array_equal(found.integrals, wanted.integrals)
    (image,), (whole,) = scan(found, low(1e5)), scan(wanted, low(1e5))
    assert image.hu.shape == shape
    np.testing.assert_array_equal(image.hu, whole.hu[inside])


@pytest.mark.parametrize("size", [1, 2, 17])
def test_tiny_slices_are_scanned(size):
    (image,) = scan(SCANNER.project(np.zeros((size, size)), 1.0), low(1e6))
    assert image.hu.shape == (size, size)
    assert np.isfinite(image.hu).all()


def test_a_slice_wider_than_the_fan_is_seen_whole():
    scanner = Scanner(FanBeam(60, 161, 35.0, 60.0))  # it sees a circle of radius 18
    sinogram = scanner.project(water(), PIXEL_MM)
    assert sinogram.geometry.radius == pytest.approx(SIZE / 2)
    edge = sinogram.integrals[:, [0, -1]]
    np.testing.assert_allclose(edge, 0, atol=1e-6)
    (image,) = scan(sinogram, CLEAN, scanner=scanner)
    assert image.hu[40:56, 40:56].mean() == pytest.approx(0, abs=5)


# -- Dose and views --------------------------------------------------------------------------------


def test_fewer_photons_are_noisier(slice_hu, sinogram):
    errors = [rmse(image, slice_hu) for image in
              scan(sinogram, low(7e4), low(1e5), low(2e5), low(1e6), CLEAN)]  # fmt: skip
    assert errors == sorted(errors, reverse=True)


def test_fewer_views_have_more_streaks(slice_hu, sinogram):
    errors = [rmse(image, slice_hu) for image in
              scan(sinogram, sparse(15), sparse(30), sparse(60), sparse(180))]  # fmt: skip
    assert errors == sorted(errors, reverse=True)


def test_the_variance_of_noise_is_one_over_the_dose():
    sinogram = SCANNER.project(water(), PIXEL_MM)
    clean, one, ten = scan(sinogram, CLEAN, low(1e5), low(1e6))
    centre = np.s_[30:66, 30:66]
    ratio = (one.hu - clean.hu)[centre].var() / (ten.hu - clean.hu)[centre].var()
    assert ratio == pytest.approx(10, rel=0.15)


def test_the_noise_of_the_ramp_rises_with_frequency_and_that_of_hann_falls_again():
    powers = {}
    for window in ("ram-lak", "hann"):
        scanner = Scanner(FAN, filter=window)
        sinogram = scanner.project(water(), PIXEL_MM)
        (clean,) = scan(sinogram, CLEAN, scanner=scanner)
        spectra = []
        for index in range(12):
            (image,) = scan(sinogram, low(1e5), index=index, scanner=scanner)
            noise = (image.hu - clean.hu)[32:64, 32:64]
            spectra.append(np.abs(np.fft.fft2(noise - noise.mean())) ** 2)
        f = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(32))
        bands = [(0.03, 0.12), (0.12, 0.22), (0.22, 0.34), (0.34, 0.5)]
        power = np.mean(spectra, 0)
        powers[window] = [power[(f > low_) & (f <= high)].mean() for low_, high in bands]
    # White noise would have the same in every band.
    assert powers["ram-lak"] == sorted(powers["ram-lak"])
    assert powers["ram-lak"][3] > 3 * powers["ram-lak"][0]
    assert powers["hann"][3] < max(powers["hann"][:3])
    assert sum(powers["hann"]) < sum(powers["ram-lak"]) / 2


def test_starved_rays_are_counted_and_leave_no_hole():
    sinogram = SCANNER.project(water(), PIXEL_MM)
    (image,) = scan(sinogram, Acquisition(Dose(200, electronic=2.0)))
    assert 0 < image.starved < image.floored < image.rays == 180 * 161
    assert np.isfinite(image.hu).all()
    (plenty,) = scan(sinogram, low(1e6))
    assert (plenty.starved, plenty.floored) == (0, 0)


def test_views_that_are_left_out_neither_cost_nor_count_photons(sinogram):
    many, few = scan(sinogram, low(300), Acquisition(Dose(300), 30))
    assert few.rays * 6 == many.rays
    assert 0 < few.starved < many.starved


def test_few_views_are_those_of_the_full_scan():
    scanner = Scanner(FAN.every(6))
    thinned, alone = SCANNER.project(water(), PIXEL_MM), scanner.project(water(), PIXEL_MM)
    (found,) = scan(thinned, Acquisition(None, 30))
    (wanted,) = scan(alone, CLEAN, scanner=scanner)
    np.testing.assert_allclose(found.hu, wanted.hu, atol=0.05)


# -- What decides the noise ------------------------------------------------------------------------


def test_the_same_seed_case_and_slice_give_the_same_bits(slice_hu, sinogram):
    again = SCANNER.project(slice_hu, PIXEL_MM)
    np.testing.assert_array_equal(again.integrals, sinogram.integrals)
    one, other = (scan(part, low(1e5), sparse(60)) for part in (sinogram, again))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.hu, b.hu)


def test_an_acquisition_does_not_depend_on_those_beside_it(sinogram):
    together = scan(sinogram, low(1e5), sparse(60), low(7e4), sparse(90))
    alone = [scan(sinogram, acquisition)[0]
             for acquisition in (low(1e5), sparse(60), low(7e4), sparse(90))]  # fmt: skip
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a.hu, b.hu)


@pytest.mark.parametrize("key", [{"seed": 1}, {"case": "b"}, {"index": 1}], ids=str)
def test_another_seed_case_or_slice_has_other_noise(sinogram, key):
    (clean,), (one,), (other,) = (
        scan(sinogram, CLEAN), scan(sinogram, low(1e5)), scan(sinogram, low(1e5), **key)
    )  # fmt: skip
    inside = circle((SIZE, SIZE))
    r = np.corrcoef((one.hu - clean.hu)[inside], (other.hu - clean.hu)[inside])[0, 1]
    assert abs(r) < 0.06


# -- Fields ----------------------------------------------------------------------------------------


def test_views_that_would_not_be_even_are_refused():
    for views in (50, 181, -1):
        with pytest.raises(ValueError, match=f"180 views cannot be thinned evenly to {views}"):
            SCANNER.stride(Acquisition(views=views))


@pytest.mark.parametrize(
    ("field", "value"),
    [("mu_water_per_mm", 0), ("mu_water_per_mm", 19.3), ("filter", "hamming")],
)
def test_an_impossible_scanner_is_refused_by_the_name_of_its_field(field, value):
    with pytest.raises(ValueError, match=f"{field} must"):
        Scanner(**{field: value})


def test_a_scanner_is_plain_data():
    for scanner in (Scanner(), Scanner(Parallel(), filter="hann")):
        fields = json.loads(json.dumps(dataclasses.asdict(scanner)))
        geometry = type(scanner.geometry)(**fields.pop("geometry"))
        assert Scanner(geometry, **fields) == scanner


@pytest.mark.parametrize("geometry", [Parallel(180, 97), FAN], ids=["parallel", "fan"])
def test_both_geometries_show_the_same_slice(slice_hu, geometry):
    scanner = Scanner(geometry, filter="hann")
    (image,) = scan(scanner.project(slice_hu, PIXEL_MM), CLEAN, scanner=scanner)
    fan = Scanner(FAN, filter="hann")
    (wanted,) = scan(fan.project(slice_hu, PIXEL_MM), CLEAN, scanner=fan)
    assert rmse(image, wanted.hu) < 25


@pytest.mark.real_ct
def test_a_real_slice_comes_back_within_15_hu_and_its_degradations_in_their_order(real_ct):
    scan_ = nifti.open_scan(real_ct / "case_00003" / "imaging.nii.gz")
    hu = np.maximum(scan_.read_hu()[8], -1000).astype(np.float32)
    scanner = Scanner()
    sinogram = scanner.project(hu, scan_.spacing_mm[1])
    errors = [rmse(image, hu) for image in scan(
        sinogram, CLEAN, low(2e5), low(1e5), low(7e4), sparse(180), sparse(90), sparse(60),
        scanner=scanner,
    )]  # fmt: skip
    assert errors[0] < 15
    assert errors[:4] == sorted(errors[:4])
    assert errors[4:] == sorted(errors[4:])
    assert sinogram.largest == pytest.approx(6.4, abs=0.3)
