"""HU histogram: values that a NIfTI file calls HU, recognised as another unit.

Constants, such as padding and clipped air, hide other units. The values beside them are counted in
a histogram. Over the 46 scans, slices of the 12 volumes with noise of 70 and 280 HU, with a
dose of 1e4 photons a ray and with 60 views, and 72 crops of 64 x 64 pixels, the other values have
these shares:

| share of the values that are no constants | CT | else |
|---|---|---|
| -150 to 300 HU, unless the median is air | at least 25 % | intercept applied twice: 0 |
| below -2000 HU | at most 0.02 % | intercept applied twice: 46 %, MR phase: 25 % |
| above 3071 HU | at most 0.001 % | MR phase: 12 %, PET: 27 % |
| -1150 to -550 HU, of those below -400 HU, if these are a fifth | at least 64 % | MR phase: 16 % |
| 874 to 1324 HU | at most 4.4 % | intercept missing: 63 % |

Without air, the lowest peak of a CT is fat: of the values within 40 HU of it, at most 44 % are
within 4 HU. Of air whose slope of 10 was lost, 95 % are.

Subtraction images and other values with noise around 0 look like a scan of water and are taken.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from volumes.volume import BELOW_WATER_HU, LEAST_BELOW

Counts = npt.NDArray[np.int64]

_ENDS_HU = (-8192, 65_536)
_CONSTANT, _STANDS_OUT, _BESIDE = 0.01, 8, 3  # share; times the median of 3 values on each side
_FEWEST_VALUES, _FEWEST_VOXELS = 16, 1024  # fewer cannot be judged: phantoms without noise
_INTERCEPT_HU = 1024
_SOFT_HU, _LEAST_SOFT = (-150, 300), 0.01
_AIR_HU = (-1150, -550)  # air and lungs
_ANY_AIR_HU, _MUCH_AIR, _LEAST_PEAK = -400, 0.2, 0.2
_TOO_LOW_HU, _MOST_LOW = -2000, 0.02
_TOO_HIGH_HU, _MOST_HIGH = 3071, 0.05
_WRAPPED, _PATTERN = 61_440, 0.05
_HIGHEST_PEAK_HU, _SHARP_HU, _LEAST_SHARP = -40, 4, 0.65
_LEAST_IN_PEAK, _MOST_BENEATH = 0.1, 0.005


class Histogram:
    """Counts of rounded values, accumulated piece by piece.

    Example:
        >>> water = np.random.default_rng(0).normal(0, 20, 4096)
        >>> air = np.random.default_rng(0).normal(-1000, 20, 4096)
        >>> found = Histogram()
        >>> found.add(np.append(air, water) - 1024)
        >>> found.other_unit()[0]
        'as if its intercept of -1024 was applied twice'
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_ENDS_HU[1] - _ENDS_HU[0] + 1, np.int64)

    def add(self, values: npt.NDArray[np.floating]) -> None:
        """Counts finite values of any shape."""
        bins = np.rint(np.clip(values, *_ENDS_HU)).astype(np.int64).ravel() - _ENDS_HU[0]
        self._counts += np.bincount(bins, minlength=self._counts.size)

    def other_unit(self) -> tuple[str, str] | None:
        """What values that cannot be HU look like, and the remedy; None if that is not certain."""
        others, _ = self._without_constants()
        if not _is_judged(others):
            return None
        if _share(others, _WRAPPED, 65_535) >= _PATTERN:
            return "as if values below 0 were stored as uint16", "Save it as int16"
        (low, high), (least, most), by = _SOFT_HU, _AIR_HU, _INTERCEPT_HU
        tissue, air = _share(others, low - by, high - by), _share(others, least - by, most - by)
        if min(tissue, air) >= _PATTERN and _share(others, low, high) < _PATTERN * tissue:
            return f"as if its intercept of -{by} was applied twice", f"Add {by:,} to its values"
        if (
            _share(others, low + by, high + by) >= _PATTERN
            and _share(others, -np.inf, BELOW_WATER_HU) < LEAST_BELOW
        ):
            cause = f"as if its intercept of -{by} was missing"
            return cause, f"Subtract {by:,} from its values"
        return None

    def oddity(self) -> str:
        """What no CT has; empty for plausible values."""
        others, constants = self._without_constants()
        if not _is_judged(others):
            return ""
        beneath, beyond = (
            _share(others, -np.inf, _TOO_LOW_HU - 1), _share(others, _TOO_HIGH_HU + 1, np.inf)
        )  # fmt: skip
        if beneath > _MOST_LOW:
            return f"{beneath:.1%} of its values are below {_TOO_LOW_HU} and are no padding"
        if beyond > _MOST_HIGH:
            return f"{beyond:.1%} of its values are above {_TOO_HIGH_HU}"
        total = np.cumsum(others)
        middle = _value(np.searchsorted(total, total[-1] / 2))
        soft = _share(others, *_SOFT_HU)
        if soft < _LEAST_SOFT and not _AIR_HU[0] <= middle <= _AIR_HU[1]:
            return f"{soft:.1%} of its values lie in soft tissue ({_SOFT_HU[0]} to {_SOFT_HU[1]})"
        air = _share(others, -np.inf, _ANY_AIR_HU)
        if air >= _MUCH_AIR and _share(others, *_AIR_HU) < _LEAST_PEAK * air:
            return f"{air:.0%} of its values are below {_ANY_AIR_HU}, but air has no peak at -1000"
        if air < _MOST_BENEATH and (peak := _sharp_peak(others)):
            return f"its lowest values have a sharp peak at {peak}, and air has -1000"
        if constants and _value(np.flatnonzero(others)[0]) >= 0:
            return f"no value is below 0, except the constant {constants[0]}"
        return ""

    def _without_constants(self) -> tuple[Counts, list[int]]:
        """The counts without values that stand out from those beside them, and these values."""
        filled = np.flatnonzero(self._counts)
        if not filled.size:
            return self._counts, []
        counts = self._counts[filled].astype(np.float64)
        padded = np.pad(counts, _BESIDE, constant_values=np.nan)
        beside = np.delete(sliding_window_view(padded, 2 * _BESIDE + 1), _BESIDE, axis=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a value alone
            usual = np.nanmedian(beside, axis=1)
        alone = (counts > _CONSTANT * counts.sum()) & ~(counts <= _STANDS_OUT * usual)
        others = self._counts.copy()
        others[filled[alone]] = 0
        return others, [_value(index) for index in filled[alone]]


def _value(index: np.integer) -> int:
    return int(index) + _ENDS_HU[0]


def _is_judged(others: Counts) -> bool:
    return bool(np.count_nonzero(others) >= _FEWEST_VALUES and others.sum() >= _FEWEST_VOXELS)


def _share(others: Counts, low: float, high: float) -> float:
    """The share of the values from `low` to `high`."""
    first, last = (int(np.clip(end, *_ENDS_HU)) - _ENDS_HU[0] for end in (low, high))
    return float(others[first : last + 1].sum() / others.sum())


def _sharp_peak(others: Counts) -> int:
    """The place of a lowest peak that is too sharp for fat; 0 if there is none."""
    peak = _value(np.argmax(others[: _HIGHEST_PEAK_HU - _ENDS_HU[0]]))
    within = _share(others, peak - _SHARP_HU, peak + _SHARP_HU)
    around = _share(others, peak - 10 * _SHARP_HU, peak + 10 * _SHARP_HU)
    beneath = _share(others, -np.inf, peak - 4 * _SHARP_HU)
    sharp = within >= max(_LEAST_IN_PEAK, _LEAST_SHARP * around)
    return peak if sharp and beneath <= _MOST_BENEATH else 0
