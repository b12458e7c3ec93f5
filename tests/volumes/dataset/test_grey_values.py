"""The scale of grey values: one set, saved as other tools save it, looks the same to a network."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from tests.gates.ledger import Faults
from volumes.dataset import find_cases
from volumes.dataset.grey_values import BYTES, TEN_THOUSANDTHS, GreyWanted
from volumes.dataset.pairs import open_pairs
from volumes.dataset.store import Store
from volumes.errors import BadInput
from volumes.window import Window

KEYS = ("train_ns", "train_gt", "test_ns", "test_gt")
FORMS = {
    "float16": lambda x: x.astype(np.float16),
    "float32": lambda x: x.astype(np.float32),
    "float64": lambda x: x,
    "uint8": lambda x: np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8),
    "float32, 0 to 255": lambda x: (x * 255).astype(np.float32),
    "int16, 0 to 255": lambda x: np.rint(x * 255).astype(np.int16),
    "int32, 12 bits": lambda x: np.rint(x * 4095).astype(np.int32),
    "uint16": lambda x: np.rint(np.clip(x, 0, 1) * 65535).astype(np.uint16),
    ">u2": lambda x: np.rint(np.clip(x, 0, 1) * 65535).astype(">u2"),
    "float64, 16 bits": lambda x: x * 65535,
    "ten-thousandths": lambda x: np.rint(x * 10_000).astype(np.int16),
}
STEP = {"float16": 1e-3, "uint8": 1 / 510, "int16, 0 to 255": 1 / 510, "int32, 12 bits": 1 / 8190}


@pytest.fixture(scope="module")
def fractions():
    """Images in [0, 1] as float64: black, white, and noise that is clipped at neither."""
    rng = np.random.default_rng(0)
    made = {}
    for side, count in (("train", 6), ("test", 3)):
        clean = np.clip(np.linspace(-0.1, 1.1, 24) + 0.1 * rng.random((count, 20, 1)), 0, 1)
        clean[:, 4:9, 4:9] = rng.random((count, 1, 1))
        clean[0, 0, 0] = 1  # 16 bits cannot be told from 12 in dark images
        noisy = clean + rng.normal(0, 0.08, clean.shape)
        made |= {f"{side}_gt": clean, f"{side}_ns": noisy}
    return made


def save(path, arrays):
    np.savez(path, **arrays)
    return path


def volumes(path, store, wanted):
    return [store.volume(case) for case in find_cases(path, grey=wanted)]


def in_window_units(path, store, window=TEN_THOUSANDTHS):
    found = volumes(path, Store(store), GreyWanted(window))
    return np.concatenate([window.unit([v.hu, v.noisy_hu]) for v in found])


@pytest.mark.parametrize("window", [TEN_THOUSANDTHS, BYTES, Window(0, 4095, clip=False)])
@pytest.mark.parametrize("form", [form for form in FORMS if form != "ten-thousandths"])
def test_a_set_is_the_same_in_window_units_whatever_it_was_saved_as(
    fractions, tmp_path, form, window
):
    one = save(tmp_path / "one.npz", fractions)
    other = save(tmp_path / "other.npz", {k: FORMS[form](v) for k, v in fractions.items()})
    expected = in_window_units(one, tmp_path / "store", window)
    found = in_window_units(other, tmp_path / "store", window)
    if "u" in form:  # they cannot hold what noise leaves beyond black and white
        expected = np.clip(expected, 0, 1)
        found = np.clip(found, 0, 1)
    apart = np.abs(found - expected).max()
    assert apart <= STEP.get(form, 1e-5) + 1.001 / window.high_hu


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"chunks": (2, 7, 24), "compression": "gzip"},
        {"chunks": (1, 20, 24), "shuffle": True, "compression": "lzf"},
    ],
)
@pytest.mark.parametrize("form", ["uint8", ">u2", "float32, 0 to 255"])
def test_hdf5_of_any_layout_is_read_as_an_archive_is(fractions, tmp_path, form, how):
    arrays = {k: FORMS[form](v) for k, v in fractions.items()}
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for key, values in arrays.items():
            file.create_dataset(key, data=values, **how)
    found = in_window_units(tmp_path / "set.h5", tmp_path / "store")
    expected = in_window_units(save(tmp_path / "set.npz", arrays), tmp_path / "store")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("form", "told"),
    [("float32", "0..1 of float32"), ("uint8", "0..255 of uint8"), (">u2", "0..65,535 of uint16"),
     ("float32, 0 to 255", "0..255 of float32"), ("int32, 12 bits", "0..4,095 of int32")],
)  # fmt: skip
def test_the_scale_is_told(fractions, tmp_path, form, told):
    path = save(tmp_path / "set.npz", {k: FORMS[form](v) for k, v in fractions.items()})
    assert open_pairs(path).scale.told == f"read as grey values {told}"


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("kind", ["gt", "ns"])
def test_noise_below_black_and_above_white_does_not_change_the_scale(
    fractions, tmp_path, kind, sigma
):
    rng = np.random.default_rng(1)
    noisy = {
        k: v + rng.normal(0, sigma, v.shape) if k.endswith(kind) else v
        for k, v in fractions.items()
    }
    scale = open_pairs(save(tmp_path / "set.npz", noisy)).scale
    assert (scale.top, scale.factor) == (1, 10_000)


def test_one_image_does_not_change_the_scale_of_the_others(fractions, tmp_path):
    """A dark image has the scale of its set, on either side of it."""
    dark = {k: v * 0.05 if "test" in k else v for k, v in fractions.items()}
    path = save(tmp_path / "set.npz", {k: FORMS["uint16"](v) for k, v in dark.items()})
    assert open_pairs(path).scale.top == 65535


def test_ten_thousandths_in_their_window_are_kept(fractions, tmp_path):
    stored = {k: FORMS["ten-thousandths"](v) for k, v in fractions.items()}
    scale = open_pairs(save(tmp_path / "set.npz", stored), GreyWanted(TEN_THOUSANDTHS)).scale
    assert (scale.top, scale.factor) == (10_000, 1)


def refused(path, window=TEN_THOUSANDTHS):
    with pytest.raises(BadInput) as caught:
        find_cases(path, grey=GreyWanted(window))
    told = str(caught.value)
    assert "\n" not in told
    assert len(told) - len(str(path)) < 260
    return told


UNFIT = {
    "bytes in a window of HU": ("uint8", Window(), "whole numbers 0..255, not Hounsfield units"),
    "fractions in a window of HU": ("float64", Window(), "floats 0..1, not Hounsfield units"),
    "fractions in a window of 1": ("float64", Window(0, 1), "floats 0..1, but the window is [0, 1"),
    "fractions in a part": ("float64", Window(0, 2000), "floats 0..1, but the window is [0, 2000]"),
    "bytes in 16 bits": ("uint8", Window(0, 30_000), "whole numbers 0..255, but the window"),
    "bytes above": ("uint8", Window(300, 900), "whole numbers 0..255, but the window"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_values_that_do_not_fit_the_window_are_refused_with_their_range(fractions, tmp_path, name):
    form, window, told = UNFIT[name]
    path = save(tmp_path / "set.npz", {k: FORMS[form](v) for k, v in fractions.items()})
    message = refused(path, window)
    assert told in message
    assert "window.low_hu=0 window.high_hu=10000" in message


UNSCALED = {
    "minus one to one": (lambda x: 2 * x - 1, "floats -1..1"),
    "standardised": (lambda x: (x - x.mean()) / x.std(), "floats -1."),
    "HU": (lambda x: x * 2000 - 1000, "floats -1000..1000"),
    "whole HU": (lambda x: np.rint(x * 2000 - 1000).astype(np.int16), "numbers -1000..1000"),
    "soft tissue": (lambda x: x * 500 - 150, "floats -150..350"),
    "attenuation a millimetre": (lambda x: x * 0.04, "which fill 4.0% of 0..1"),
    "masks": (lambda x: (x > 0.5).astype(np.uint8), "which fill 0.4% of 0..255"),
    "a scale of ten": (lambda x: x * 10, "of no known scale"),
    "32 bits": (lambda x: (x * 2**31).astype(np.int64), "of no known scale"),
}


@pytest.mark.parametrize("name", UNSCALED)
def test_values_without_a_scale_are_refused_with_their_range(fractions, tmp_path, name):
    change, told = UNSCALED[name]
    message = refused(save(tmp_path / "set.npz", {k: change(v) for k, v in fractions.items()}))
    assert told in message
    assert "[0, 1]" in message


def test_sides_of_different_scales_are_refused(fractions, tmp_path):
    mixed = {k: v * 255 if "test" in k else v for k, v in fractions.items()}
    message = refused(save(tmp_path / "set.npz", mixed))
    assert "has sides of different scales: values up to 1 and 255" in message


def test_noisy_images_of_another_scale_are_refused(fractions, tmp_path):
    mixed = {k: v * 255 if "gt" in k else v for k, v in fractions.items()}
    message = refused(save(tmp_path / "set.npz", mixed))
    assert "ns has 0.0039" in message
    assert "times the values of train_gt" in message


def test_values_within_a_part_of_their_scale_are_kept(fractions, tmp_path):
    path = save(tmp_path / "set.npz", {k: FORMS["uint8"](v) for k, v in fractions.items()})
    found = volumes(path, Store(tmp_path / "store"), GreyWanted(Window(50, 200, clip=False)))
    assert max(int(v.hu.max()) for v in found) == 255


def test_a_recorded_scale_is_used_for_darker_images_of_the_same_datatype(fractions, tmp_path):
    dark = {k: FORMS["uint16"](v * 0.18) for k, v in fractions.items()}
    path = save(tmp_path / "dark.npz", {k: np.minimum(v, 4000) for k, v in dark.items()})
    assert open_pairs(path).scale.top == 4095
    assert open_pairs(path, GreyWanted(tops=(("uint16", 65535),))).scale.top == 4095  # fills 6 %
    brighter = save(tmp_path / "set.npz", dark)
    assert open_pairs(brighter).scale.top == 10_000  # ten-thousandths
    assert open_pairs(brighter, GreyWanted(tops=(("uint16", 65535),))).scale.top == 65535
    assert open_pairs(brighter, GreyWanted(tops=(("float32", 255),))).scale.top == 10_000


def test_each_scale_has_its_own_array_in_the_store(fractions, tmp_path):
    """A store that was filled for one window gives no values of it to another one."""
    store = Store(tmp_path / "store")
    path = save(tmp_path / "set.npz", {k: FORMS["uint8"](v) for k, v in fractions.items()})
    tops = [
        max(int(v.hu.max()) for v in volumes(path, store, GreyWanted(window)))
        for window in (BYTES, TEN_THOUSANDTHS, BYTES)
    ]
    assert tops == [255, 10_000, 255]


def attempted(path, window):
    """The refusal of a set, or the set."""
    try:
        return "", open_pairs(path, GreyWanted(window))
    except BadInput as refusal:
        return str(refusal), None


@pytest.mark.gate("G7")
def test_no_set_is_squeezed_into_a_corner_of_the_window(faults: Faults, tmp_path) -> None:
    """Sets of any range and datatype: each is refused in one line, or fills the window."""
    for i in range(faults.times(push=120, soak=4000)):
        draw = faults.random(i)
        low, high = draw.choice(RANGES)
        datatype = draw.choice(("uint8", "int16", "uint16", "int32", "float32", "float64"))
        window = draw.choice((TEN_THOUSANDTHS, BYTES, Window(), Window(0, 1), Window(0, 4095)))
        if "int" in datatype and np.iinfo(datatype).max < high:
            datatype = "int64"
        limits = np.iinfo(datatype) if "int" in datatype else np.finfo(datatype)
        clean = np.linspace(low, high, 12 * 16).reshape(2, 6, 16)
        noisy = clean + np.random.default_rng(i).normal(0, 0.05 * (high - low), clean.shape)
        arrays = {
            f"{side}_{kind}": np.clip(image, limits.min, limits.max).astype(datatype)
            for side in ("train", "test")
            for kind, image in (("gt", clean), ("ns", noisy))
        }
        path = save(tmp_path / f"{i}.npz", arrays)
        told, pairs = attempted(path, window)
        assert len(told) - len(str(path)) < 260
        if pairs is not None:
            found = window.unit(next(iter(pairs.read("train")))[0])
            assert found.max() >= 1 / 16, (low, high, datatype, window)
            assert (found.max() < 1.3) or window == Window(), (low, high, datatype, window)
            assert len(np.unique(found)) > 4, (low, high, datatype, window)
        faults.handled()


RANGES = (
    (0, 1), (0, 0.9), (-0.05, 1.1), (0, 0.03), (-1, 1), (0, 255), (10, 200), (0, 100), (0, 3),
    (0, 1023), (0, 4095), (0, 16383), (0, 65535), (0, 10_000), (-1000, 1000), (-1024, 3071),
    (-150, 250), (0, 2000), (24, 2024), (0, 2**31 - 1), (1e-6, 1e-5), (-3, 3),
)  # fmt: skip
