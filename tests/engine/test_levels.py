import pytest

from engine.levels import Level, levels
from engine.refusals import BadUsage
from volumes import Gaussian, Recorded


def test_levels_of_gaussian_noise_are_named_in_percent_of_the_window():
    assert levels("gaussian:0.02,0.125") == (
        Level("2%", Gaussian(0.02)), Level("12.5%", Gaussian(0.125)),
    )  # fmt: skip


def test_recorded_levels_are_named_by_their_files():
    assert levels("recorded:quarter,low_dose-1e5") == (
        Level("quarter", Recorded("quarter")), Level("low_dose-1e5", Recorded("low_dose-1e5")),
    )  # fmt: skip


def test_a_level_that_is_named_twice_is_one():
    assert len(levels("gaussian:0.1,0.10,1e-1")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "gaussian", "gaussian:", "gaussian:0", "gaussian:-0.1", "gaussian:inf", "gaussian:nan",
        "gaussian:0.1,", "poisson:0.1", "recorded:", "recorded:../x", "recorded:imaging",
    ],
)  # fmt: skip
def test_what_names_no_level_is_refused(text):
    with pytest.raises(BadUsage, match="--noise: takes no"):
        levels(text)
