"""Rod phantoms: their line integrals and their images are those of the discs."""

import numpy as np
import pytest

from volumes.phantoms.rods import Rod, RodPhantom, coverage, disc_spectrum, rod_integrals
from volumes.tomography.geometry import FanBeam, Parallel
from volumes.tomography.scanner import Acquisition, Scanner

BEAMS = [FanBeam(120, 201, 35.0, 300.0), Parallel(views=120, bins=151)]


@pytest.fixture(scope="module", autouse=True)
def _tf(cpu):
    """Scanners need TensorFlow."""


ROD = Rod("rod", x_mm=12.3, y_mm=-7.1, diameter_mm=16.0, hu=100.0)
WATER = RodPhantom("water", 80.0, (ROD,))


def test_a_rod_covers_the_area_of_its_disc() -> None:
    share = coverage(ROD, size=120, pixel_mm=0.8)
    # Shares are counted in steps of 1 / 64 along an edge of 63 pixels: 0.1 % is ten times that.
    assert share.sum() * 0.8**2 == pytest.approx(np.pi * 8.0**2, rel=1e-3)
    y, x = np.unravel_index(np.argmax(share), share.shape)
    assert ROD.distance_mm(120, 0.8)[y, x] < 8.0


@pytest.mark.parametrize("beam", BEAMS)
def test_the_integral_of_a_ray_through_the_axis_is_the_diameter(beam) -> None:
    rod = Rod("rod", 10.0, 5.0, 20.0, 1000.0)
    found = rod_integrals([(rod, 1000.0)], beam, mu_water_per_mm=0.02, pixel_mm=1.0)
    # The chord falls by 0.2 % over half a bin beside the axis, where the ray need not be.
    np.testing.assert_allclose(found.max(axis=1), 20.0 * 0.02, rtol=5e-3)


@pytest.mark.parametrize("beam", BEAMS)
def test_line_integrals_agree_with_those_of_the_drawn_image(beam) -> None:
    scanner = Scanner(geometry=beam)
    exact = WATER.sinogram(scanner, size=128, pixel_mm=0.8).integrals
    drawn = scanner.project(WATER.image(128, 0.8), pixel_mm=0.8).integrals
    # The projection of an image blurs edges by a pixel; in the mean of a view nothing is lost.
    np.testing.assert_allclose(exact.sum(axis=1), drawn.sum(axis=1), rtol=1e-3)
    assert np.sqrt(np.mean((exact - drawn) ** 2)) < 0.01 * exact.max()


@pytest.mark.parametrize("beam", BEAMS)
def test_the_reconstruction_has_the_hu_of_the_materials_in_their_places(beam) -> None:
    scanner = Scanner(geometry=beam, filter="hann")
    (image,) = scanner.scan(WATER.sinogram(scanner, 128, 0.8), [Acquisition(None)], 0, "rod", 0)
    inside = ROD.distance_mm(128, 0.8) < 0.6 * ROD.radius_mm
    beside = (ROD.distance_mm(128, 0.8) > 14) & (WATER.body.distance_mm(128, 0.8) < 30)
    # 120 views leave streaks of the body's edge; they are below 1 HU in the mean of a region.
    assert image.hu[inside].mean() == pytest.approx(100, abs=1)
    assert image.hu[beside].mean() == pytest.approx(0, abs=1)


def test_a_region_is_centred_on_the_axis() -> None:
    rows, columns = ROD.region(size=128, pixel_mm=0.8, side_mm=24.0)
    distance = ROD.distance_mm(128, 0.8)[rows, columns]
    assert distance.shape == (31, 31)
    assert np.unravel_index(np.argmin(distance), distance.shape) == (15, 15)


def test_a_region_that_leaves_the_slice_is_refused() -> None:
    with pytest.raises(ValueError, match="not inside the slice"):
        ROD.region(size=64, pixel_mm=0.8, side_mm=60.0)


def test_rods_that_overlap_or_leave_the_cylinder_are_refused() -> None:
    with pytest.raises(ValueError, match="overlaps"):
        RodPhantom("two", 80.0, (ROD, Rod("other", 12.0, 0.0, 4.0, 50.0)))
    with pytest.raises(ValueError, match="leaves"):
        RodPhantom("out", 80.0, (Rod("far", 38.0, 0.0, 6.0, 50.0),))


def test_the_spectrum_of_a_disc_begins_with_its_area_and_is_zero_at_the_first_zero_of_j1() -> None:
    found = disc_spectrum(np.array([0.0, 3.8317 / (2 * np.pi * 2.5)]), 5.0, 14.0)
    np.testing.assert_allclose(found, [14 * np.pi * 2.5**2, 0], atol=0.01)
