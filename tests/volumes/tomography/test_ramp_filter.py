import numpy as np
import pytest

from volumes.tomography import ramp_filter
from volumes.tomography.geometry import FanBeam, Parallel

BEAMS = [FanBeam(), FanBeam(8, 33, 40.0, 90.0), Parallel(8, 41, 0.5), Parallel(1, 1)]


@pytest.mark.parametrize("beam", BEAMS)
def test_the_ramp_grows_with_frequency_and_keeps_a_little_at_zero(beam):
    response = ramp_filter.filters(beam, "ram-lak")[1]
    length = 2 * (response.size - 1)
    exact = np.fft.rfftfreq(length) / beam.bin_width * np.pi / beam.arc
    # The samples in space, cut off at the length, differ from |f| by their missing tail.
    np.testing.assert_allclose(response, exact, atol=1 / beam.bin_width / length)
    assert (response > 0).all()
    assert (np.diff(response) >= 0).all()


@pytest.mark.parametrize("beam", BEAMS)
def test_nothing_wraps_around(beam):
    assert 2 * (ramp_filter.filters(beam, "hann")[1].size - 1) >= 2 * beam.bins


def test_windows_leave_low_frequencies_and_lower_high_ones_in_their_known_order():
    ends = [ramp_filter.filters(FanBeam(), window)[1] for window in ramp_filter.WINDOWS]
    np.testing.assert_allclose([end[1] / ends[0][1] for end in ends], 1, atol=1e-4)
    shares = [end[-1] / ends[0][-1] for end in ends]
    np.testing.assert_allclose(shares, [1, 2 / np.pi, 0, 0], atol=1e-6)
    half = [end[end.size // 2] / ends[0][end.size // 2] for end in ends]
    np.testing.assert_allclose(half, [1, 8**0.5 / np.pi, 0.5**0.5, 0.5], rtol=1e-5)


def test_oblique_rays_weigh_by_their_cosine_and_parallel_ones_alike():
    fan = FanBeam()
    weight = ramp_filter.filters(fan, "ram-lak")[0]
    np.testing.assert_allclose(weight, np.cos(np.arctan(fan.shadow / 1000)), rtol=1e-6)
    assert (ramp_filter.filters(Parallel(), "ram-lak")[0] == 1).all()


def test_an_unknown_window_is_refused():
    with pytest.raises(ValueError, match="filter must be one of ram-lak, shepp-logan"):
        ramp_filter.filters(FanBeam(), "hamming")
