import pytest

from engine.comparison.noise_levels import Level, added_levels, scanned_levels
from engine.errors import BadUsage
from volumes import Coloured, Gaussian, LowDose, Recorded, SparseView, Window


def test_levels_of_gaussian_noise_are_named_in_percent_of_the_window():
    assert added_levels("gaussian:0.02,0.125") == (
        Level("2%", Gaussian(0.02)), Level("12.5%", Gaussian(0.125)),
    )  # fmt: skip


def test_levels_of_coloured_noise_tell_their_spectrum_where_it_was_chosen():
    usual, chosen = added_levels("coloured:0.05,0.1/0.6/0.25")
    assert (usual.label, chosen.label) == ("coloured 5%", "coloured 10%/0.6/0.25")
    assert chosen.noise == Coloured(0.1, 0.6, 0.25)
    told = chosen.noise.describe(Window())
    assert "amplitude f^0.6 exp(-(f / 0.25)^2)" in told
    assert told.endswith("standard deviation 140 HU")


def test_a_value_without_a_kind_has_the_kind_before_it():
    found = added_levels("gaussian:0.02,0.05,coloured:0.05,0.1,recorded:quarter")
    labels = ["2%", "5%", "coloured 5%", "coloured 10%", "quarter"]
    assert [level.label for level in found] == labels


def test_recorded_levels_are_named_by_their_files():
    assert added_levels("recorded:quarter,low_dose-1e5") == (
        Level("quarter", Recorded("quarter")), Level("low_dose-1e5", Recorded("low_dose-1e5")),
    )  # fmt: skip


def test_a_level_that_is_named_twice_is_one():
    assert len(added_levels("gaussian:0.1,0.10,1e-1")) == 1
    # The same holds for a level with the same label.
    assert len(added_levels("gaussian:0.1,0.10000001")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "gaussian", "gaussian:", "gaussian:0", "gaussian:-0.1", "gaussian:inf", "gaussian:nan",
        "gaussian:0.1,", "poisson:0.1", "recorded:", "recorded:../x", "recorded:imaging",
        "coloured:", "coloured:0", "coloured:0.1/1",
    ],
)  # fmt: skip
def test_text_without_a_level_is_refused(text):
    with pytest.raises(BadUsage, match="--noise: takes no"):
        added_levels(text)


# -- Scanners --------------------------------------------------------------------------------------


def test_scanned_levels_are_named_as_the_files_of_degrade():
    assert scanned_levels("low_dose:7e4,100000,sparse_view:60") == (
        Level("low_dose-7e4", LowDose(7e4)), Level("low_dose-1e5", LowDose(1e5)),
        Level("sparse_view-60", SparseView(60)),
    )  # fmt: skip


def test_scanned_levels_tell_photons_and_views():
    found = scanned_levels("low_dose:7e4,sparse_view:60")
    low, sparse = (level.noise.describe(Window()) for level in found)
    assert "70000 photons a ray, all of its views" in low
    assert "1e+06 photons a ray, 60 of its views" in sparse


@pytest.mark.parametrize(
    "text", ["", "low_dose", "low_dose:", "low_dose:0", "sparse_view:7", "low_dose:1e5,1e5", "x:1",
             "gaussian:0.1"],
)  # fmt: skip
def test_text_without_a_scanner_is_refused(text):
    with pytest.raises(BadUsage, match="--as"):
        scanned_levels(text)
