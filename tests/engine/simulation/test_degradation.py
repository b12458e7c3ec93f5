import json

import pytest

from engine.errors import BadUsage
from engine.simulation.degradation import parse
from volumes import Coloured, Gaussian
from volumes.tomography.photon_noise import Dose
from volumes.tomography.scanner import Acquisition


def noises(text):
    return [degradation.noise for degradation in parse(text)]


def names(text):
    return [degradation.name for degradation in parse(text)]


def test_a_degradation_is_written_in_words():
    assert noises("gaussian:0.05") == [Gaussian(0.05)]
    assert noises("coloured:0.05/0.6/0.25") == [Coloured(0.05, 0.6, 0.25)]
    assert noises("low_dose:7e4") == [Acquisition(Dose(7e4))]
    assert noises("sparse_view:60") == [Acquisition(Dose(1e6), 60)]


def test_a_number_is_of_the_kind_before_it():
    assert names("low_dose:7e4,1e5,2e5,sparse_view:60,90,180") == [
        "low_dose-7e4", "low_dose-1e5", "low_dose-2e5",
        "sparse_view-60", "sparse_view-90", "sparse_view-180",
    ]  # fmt: skip
    assert noises("gaussian:0.1,0.05") == [Gaussian(0.1), Gaussian(0.05)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("low_dose:100000", "low_dose-1e5"), ("low_dose:1.25E+05", "low_dose-1.25e5"),
        ("low_dose:40", "low_dose-4e1"), ("sparse_view:060", "sparse_view-60"),
        ("gaussian:0.10", "gaussian-0.10"),
        ("coloured:0.05/0.6/0.25", "coloured-0.05-0.6-0.25"), ("coloured:0.05", "coloured-0.05"),
    ],
)  # fmt: skip
def test_a_file_is_named_alike_however_its_dose_is_written(text, name):
    assert names(text) == [name]


@pytest.mark.parametrize("text", ["low_dose", "low_dose:1e5,gaussian"])
def test_a_kind_without_a_value_is_refused_with_one(text):
    kind = text.rpartition(",")[2]
    with pytest.raises(BadUsage, match=f"--as: gives {kind} no value. Write such as {kind}:"):
        parse(text)


@pytest.mark.parametrize("text", ["poisson:3", "", "0.1", "Gaussian:0.1", ":3", "1e5,low_dose:1e5"])
def test_an_unknown_kind_is_refused(text):
    with pytest.raises(BadUsage, match="--as: names the unknown degradation"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "coloured:", "coloured:0", "coloured:0.05/0.6", "coloured:0.05/-1/0.2",
        "gaussian", "gaussian:", "gaussian:loud", "gaussian:-0.1", "low_dose:", "low_dose:-1e5",
        "low_dose:inf", "low_dose:1e5,", "sparse_view:60.5", "sparse_view:-60", "low_dose:1e5,x",
    ],
)  # fmt: skip
def test_a_strength_that_is_none_is_refused(text):
    with pytest.raises(BadUsage, match="--as"):
        parse(text)


@pytest.mark.parametrize("views", [0, 7, 70, 901, 1800])
def test_views_that_would_not_be_even_are_refused(views):
    with pytest.raises(BadUsage, match=f"900 views cannot be thinned evenly to {views}"):
        parse(f"sparse_view:{views}")


@pytest.mark.parametrize("text", ["low_dose:1e5,100000", "gaussian:0.1,0.1"])
def test_a_degradation_that_is_named_twice_is_refused(text):
    with pytest.raises(BadUsage, match="twice"):
        parse(text)


def test_the_sidecar_of_coloured_noise_contains_its_spectrum():
    (degradation,) = parse("coloured:0.05/0.6/0.25")
    about = degradation.about()
    assert about["sigma_hu"] == pytest.approx(70)
    assert about["degradation"]["kind"] == "coloured"
    assert (about["degradation"]["exponent"], about["degradation"]["cutoff"]) == (0.6, 0.25)


def test_white_noise_beside_a_scanner_s_is_refused():
    with pytest.raises(BadUsage, match="references differ"):
        parse("gaussian:0.1,low_dose:1e5")


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("gaussian:0.1", {"kind": "gaussian", "sigma": 0.1}),
        ("low_dose:7e4",
         {"kind": "low_dose", "views": 900, "photons": 7e4, "electronic": 0, "floor": 1}),
        ("sparse_view:60",
         {"kind": "sparse_view", "views": 60, "photons": 1e6, "electronic": 0, "floor": 1}),
    ],
)  # fmt: skip
def test_a_degradation_describes_itself(text, about):
    (found,) = parse(text)
    assert json.loads(json.dumps(found.about()))["degradation"] == about
