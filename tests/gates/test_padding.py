"""Padding of any value and shape, and measured regions that only look like it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from volumes.padding import padding

SHAPE = (3, 96, 128)
VALUES = (0, 1, -1, 40, -60, -500, -899, -900, -1000, -1024, -1400, -3024, 500, 3071, 32767)
ROWS, COLUMNS = np.mgrid[-1:1:96j, -1:1:128j]


def _body(sigma_hu: float, lowest_hu: float, dtype: str) -> np.ndarray:
    """(3, 96, 128) HU of a body in air, with noise, fat, bone and gas, clipped as scanners do."""
    rng = np.random.default_rng(int(sigma_hu))
    hu = np.full(SHAPE, -1000.0)
    hu[:, (ROWS / 0.6) ** 2 + (COLUMNS / 0.8) ** 2 < 1] = -90
    hu[:, (ROWS / 0.5) ** 2 + (COLUMNS / 0.7) ** 2 < 1] = 45
    hu[:, ((ROWS - 0.3) / 0.1) ** 2 + (COLUMNS / 0.1) ** 2 < 1] = 900
    hu[:, ((ROWS + 0.2) / 0.1) ** 2 + (COLUMNS / 0.1) ** 2 < 1] = -980
    hu = np.clip(hu + rng.normal(0, sigma_hu, SHAPE), lowest_hu, 3071)
    return np.rint(hu).astype(dtype) if dtype == "i2" else hu.astype(dtype)


def _outside() -> Iterator[tuple[str, list[np.ndarray]]]:
    """Names of padding, and the masks of its parts, each of which may have its own value."""
    radius = np.hypot(ROWS, COLUMNS)
    yield "a circle", [radius > 1]
    yield "an ellipse inside the slice", [np.hypot(ROWS / 0.9, COLUMNS / 0.9) > 1]
    yield "a wide circle", [radius > 1.2]
    corners = [
        (radius > 1.05) & (sy * ROWS > 0) & (sx * COLUMNS > 0) for sy in (-1, 1) for sx in (-1, 1)
    ]
    yield "a circle, corner by corner", corners
    for number, corner in enumerate(corners):
        yield f"corner {number} alone", [corner]
    for turn in (-20, -7, 7, 20):
        cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        turned = np.maximum(abs(cos * ROWS + sin * COLUMNS), abs(cos * COLUMNS - sin * ROWS)) > 1
        yield f"wedges of a slice turned by {turn} degrees", [turned]
        yield f"one wedge of {turn} degrees", [cos * ROWS + sin * COLUMNS > 1]
    for width in (0.02, 0.1, 0.6):
        yield f"a band of {width:g} at the top", [width - 1 > ROWS]
        yield f"a band of {width:g} at the left", [width - 1 > COLUMNS]
    yield "bands of a tilted gantry", [ROWS < -0.9, ROWS > 0.85]
    yield "an L of a shifted scan", [(ROWS < -0.8) | (COLUMNS > 0.9)]
    yield "stitched scans", [(ROWS < -0.3) & (COLUMNS > 0.6), (ROWS > 0.5) & (COLUMNS < -0.5)]


@pytest.mark.gate("G14")
@pytest.mark.parametrize(("sigma_hu", "lowest_hu"), [(3, -1024), (15, -32768), (15, -1024),
                                                     (60, -32768), (140, -32768)])  # fmt: skip
@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_padding_is_found_for_every_value_and_shape(faults, sigma_hu, lowest_hu, dtype):
    body = _body(sigma_hu, lowest_hu, dtype)
    alone = padding(body)
    assert not alone[body > -1500].any()
    values = [value for value in VALUES if np.mean(body == value) < 0.05]
    for name, parts in _outside():
        for turn in range(len(values)):
            hu, outside = body.copy(), np.zeros(SHAPE, bool)
            # Every part and every slice has its own value in turn.
            for z, slice_ in enumerate(hu):
                for number, part in enumerate(parts):
                    slice_[part] = values[(turn + z + number) % len(values)]
                    outside[z] |= part
            found = padding(hu)
            assert found[outside].all(), (name, turn)
            # Measured voxels beside padding may equal it, such as clipped air beside -1024.
            more = found & ~outside & ~alone & (hu > -1500)
            assert np.isin(hu[more], hu[outside]).all(), (name, turn)
            assert more.sum() <= 0.01 * more.size, (name, turn)
            faults.handled()


def _smooth(sigma_hu: float, seed: int, size: float) -> np.ndarray:
    """Noise that is correlated within slices."""
    noise = np.random.default_rng(seed).normal(0, 1, SHAPE)
    noise = ndimage.gaussian_filter(noise, (0, size, size)) if size else noise
    return sigma_hu * noise / noise.std()


def _measured() -> Iterator[tuple[str, np.ndarray]]:
    """Names and HU of scans without padding."""
    body = _body(15, -1024, "i2")
    for mean, sigma_hu, size in product((-1000, -1010, -1024), (3, 10, 40, 140), (0, 0.6, 1.5)):
        noise = _smooth(sigma_hu, 1, size)
        air = np.where(body > -300, body, np.clip(mean + noise, -1024, None))
        yield f"air of {mean} with noise of {sigma_hu} and {size}, clipped", np.rint(air)
    for value in (-1024, 0, 40, 3071):
        edge, inside = body.copy(), body.copy()
        edge[:, :20, 50:80] = value
        inside[:, 30:60, 40:80] = value
        yield f"{value} at an edge", edge
        yield f"{value} in the middle", inside
    for value in (0, 40, -90):
        yield f"nothing but {value}", np.full(SHAPE, value)
        inserts = np.full(SHAPE, value)
        inserts[:, np.hypot(ROWS - 0.4, COLUMNS) < 0.2] = -1000
        inserts[:, np.hypot(ROWS + 0.4, COLUMNS) < 0.2] = 955
        yield f"inserts in {value}", inserts
        tank = np.full(SHAPE, -800)
        tank[:, ROWS > 0.2] = value
        yield f"a tank of {value}", tank
        lungs = np.full(SHAPE, value)
        lungs[:, np.hypot(ROWS, abs(COLUMNS) - 0.4) < 0.3] = -850
        yield f"lungs in {value}", lungs
        yield f"noise about {value}", np.rint(value + _smooth(10, 2, 0))
        yield f"smooth noise about {value}", np.rint(value + _smooth(4, 2, 2))
    for low, high in ((-160, 240), (-200, 300), (-500, 1300)):
        yield f"a window of {low} to {high}", np.clip(body, low, high)
    grey = np.clip(_smooth(60, 3, 3) + 100, 0, 255).round()
    for value in (0, 255):
        photograph = grey.copy()
        photograph[:, :30, :40] = value
        yield f"a photograph with a corner of {value}", photograph
    steps = np.repeat(np.repeat(np.rint(_body(20, -1024, "f4")[:, ::4, ::4]), 4, 1), 4, 2)
    yield "enlarged by copies of voxels", steps


MEASURED = dict(_measured())


@pytest.mark.gate("G14")
@pytest.mark.parametrize("name", MEASURED)
def test_measured_values_that_look_like_padding_are_kept(faults, name):
    for dtype in (np.int16, np.float32):
        assert not padding(MEASURED[name].astype(dtype)).any()
    faults.handled()
