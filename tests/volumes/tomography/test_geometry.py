import dataclasses
import json

import numpy as np
import pytest

from volumes.tomography.geometry import FanBeam, Parallel

FANS = [FanBeam(), FanBeam(7, 12, 50.0, 90.0)]


@pytest.mark.parametrize("fan", FANS)
@pytest.mark.parametrize("detector_pixels", [400.0, 1000.0])
def test_rays_of_a_fan_run_from_the_source_to_their_bins_wherever_the_detector_stands(
    fan, detector_pixels
):
    theta, s = fan.rays
    reach = fan.source_pixels + detector_pixels
    width = 2 * reach * np.tan(np.deg2rad(fan.fan_degrees) / 2) / fan.bins
    for view in range(0, fan.views, 3):
        beta = 2 * np.pi * view / fan.views
        source = fan.source_pixels * np.array([np.sin(beta), -np.cos(beta)])
        for k in (0, fan.bins // 3, fan.bins - 1):
            u = (k - (fan.bins - 1) / 2) * width
            at = detector_pixels * np.array([-np.sin(beta), np.cos(beta)])
            at += u * np.array([np.cos(beta), np.sin(beta)])
            normal = np.array([np.cos(theta[view, k]), np.sin(theta[view, k])])
            np.testing.assert_allclose([normal @ source, normal @ at], s[view, k], atol=1e-9)


def test_parallel_rays_have_one_direction_a_view_over_half_a_turn():
    theta, s = Parallel(4, 5, 0.5).rays
    np.testing.assert_allclose(theta, np.outer([0, 0.25, 0.5, 0.75], np.full(5, np.pi)))
    np.testing.assert_allclose(s, np.tile([-1, -0.5, 0, 0.5, 1], (4, 1)))


def test_the_default_fan_sees_the_circle_of_512_pixels_but_not_its_corners():
    assert FanBeam().radius == pytest.approx(1000 * np.sin(np.deg2rad(17.5)))
    assert 256 < FanBeam().radius < 256 * 2**0.5
    assert FanBeam().seeing(512) == FanBeam()


@pytest.mark.parametrize("beam", [FanBeam(), Parallel(), FanBeam(3, 2, 120.0, 5.0)])
@pytest.mark.parametrize("size", [1, 513, 796, 2000])
def test_a_scanner_that_is_too_narrow_is_enlarged_just_so_far_that_it_sees_the_circle(beam, size):
    found = beam.seeing(size)
    assert found.radius == pytest.approx(max(beam.radius, size / 2))
    assert (found.views, found.bins) == (beam.views, beam.bins)


@pytest.mark.parametrize("beam", [FanBeam(12, 9), Parallel(12, 9)])
def test_the_views_that_are_left_by_thinning_are_those_that_were_there(beam):
    for stride in (1, 2, 3, 12):
        np.testing.assert_allclose(beam.every(stride).angles, beam.angles[::stride], rtol=1e-15)


@pytest.mark.parametrize("stride", [0, -1, 5, 24])
def test_thinning_that_would_leave_a_gap_is_refused(stride):
    with pytest.raises(ValueError, match="thinned evenly"):
        FanBeam(12, 9).every(stride)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (FanBeam, {"views": 0}), (FanBeam, {"bins": 0}), (FanBeam, {"fan_degrees": 0}),
        (FanBeam, {"fan_degrees": 180}), (FanBeam, {"source_pixels": 0}),
        (FanBeam, {"source_pixels": float("inf")}), (Parallel, {"views": -1}),
        (Parallel, {"bin_pixels": 0}), (Parallel, {"bin_pixels": float("nan")}),
    ],
)  # fmt: skip
def test_an_impossible_geometry_is_refused_by_the_name_of_its_field(kind, fields):
    with pytest.raises(ValueError, match=rf"geometry\.{next(iter(fields))} must"):
        kind(**fields)


@pytest.mark.parametrize("beam", [FanBeam(), Parallel()])
def test_a_geometry_is_plain_data(beam):
    fields = json.loads(json.dumps(dataclasses.asdict(beam)))
    assert type(beam)(**fields) == beam
    assert fields.items() <= json.loads(json.dumps(beam.about())).items()


@pytest.mark.parametrize("beam", [FanBeam(4, 6), Parallel(4, 6, 1.5)])
def test_a_bin_that_is_split_covers_what_it_covered(beam):
    fine = beam.split_bins(3)
    np.testing.assert_allclose(fine.shadow.reshape(6, 3).mean(axis=1), beam.shadow)
    assert fine.bin_width == pytest.approx(beam.bin_width / 3)
    assert fine.radius == pytest.approx(beam.radius)
