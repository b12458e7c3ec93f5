"""Grey values: the scale of images that are not scans, and how a window reads them.

A file of images declares neither a unit nor a range. The same image may be stored as bytes, 0 to
255, or as fractions of 1, and must look the same to a network. So the top of the scale is found
once for a whole set:

- Bytes have 255.
- Other whole numbers have the smallest of 255, 4095 and 65535 (8, 12 and 16 bits) that no clean
  value exceeds.
- Floats have 1, 255, 4095 or 65535. Noise may exceed the top, and lie below 0: their range is that
  of all clean values but the lowest and the highest thousandth.
- Whole numbers and floats that reach the top of the window, 10,000, may be ten-thousandths already.

A window from 0 to 255, 1023, 4095, 10,000 or 16,383 is a whole scale: the top of the images is
mapped to its end. Every other window is in the images' own values, which are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.errors import BadInput
from volumes.volume import BELOW_WATER_HU, LEAST_BELOW
from volumes.window import Window

TEN_THOUSANDTHS = Window(low_hu=0, high_hu=10_000, clip=False)
BYTES = Window(low_hu=0, high_hu=255, clip=False)

_TOPS = (255, 4095, 65535)
_WHOLE_SCALES = (255, 1023, 4095, 10_000, 16_383)
# The largest value of floats of each top, by all but a thousandth: noise may exceed the top.
_FLOATS_UP_TO = {1: 2.0, 255: 510.0, 4095: 5120.0, 65535: 82_000.0}
_FRACTIONS_END, _BYTES_BEGIN = 2.0, 16.0  # floats between them have no scale that can be told
_OWN_MARGIN = 1.25
_LEAST_FILLED = 1 / 16
_FEWEST_STEPS = 16  # in the window, which keeps whole numbers
_SIDES_APART = 64
_FRACTIONS_BELOW, _BELOW = -0.75, -0.1  # of the top, of the highest value
_EXTREME = 0.001
_SAMPLES = 2**21
_NO_TISSUE_HU = 10_000  # see `volumes.nifti.hu_check`


@dataclass(frozen=True)
class GreyWanted:
    """How the images of a data set are to be read.

    Attributes:
        window: of the recipe; None for the window that suits the images.
        hu: whether values are HU although they do not look like it.
        tops: the top of the scale by datatype, as a run recorded it.
    """

    window: Window | None = None
    hu: bool = False
    tops: tuple[tuple[str, int], ...] = ()

    def top(self, datatype: str) -> int | None:
        """The recorded top of a datatype; None if there is none."""
        return dict(self.tops).get(datatype)


Tops = tuple[tuple[str, int], ...]  # of a scale, by datatype
AS_FOUND = GreyWanted()


@dataclass(frozen=True)
class Spread:
    """The values of clean images.

    Attributes:
        datatype: such as "uint8".
        whole: whether they are whole numbers.
        least, most: the smallest and largest value.
        low, high: of all values but the lowest and the highest thousandth.
        like_hu: whether they look like Hounsfield units.
    """

    datatype: str
    whole: bool
    least: float
    most: float
    low: float
    high: float
    like_hu: bool

    @property
    def words(self) -> str:
        """The range in words."""
        kind = "whole numbers" if self.whole else "floats"
        return f"{kind} {self.least:.4g}..{self.most:.4g}"


@dataclass(frozen=True)
class Scale:
    """How the values of images are stored as int16.

    Attributes:
        factor: that they are multiplied by, before they are rounded.
        told: how they are read, in words.
        hu: whether they are HU.
        datatype: of the images.
        top: of their scale; None if they are HU, or kept.
        window: that they are read for.

    Example:
        >>> SPREAD = Spread("uint8", True, 0, 255, 3, 250, False)
        >>> scale_of(Path("set.npz"), SPREAD, GreyWanted(TEN_THOUSANDTHS)).told
        'read as grey values 0..255 of uint8'
    """

    factor: float
    told: str
    hu: bool
    datatype: str
    top: int | None = None
    window: Window = TEN_THOUSANDTHS

    @property
    def mark(self) -> str:
        """A suffix for cache keys: the scale changes what is stored. Empty if values are kept."""
        return "" if self.factor == 1 else f"-grey{self.factor:.6g}"


def spread(
    datatype: np.dtype[Any], blocks: Iterable[npt.NDArray[Any]], count: int
) -> Spread | None:
    """The values of clean images, which are read once.

    Args:
        datatype: of the images.
        blocks: of them, (n, Y, X).
        count: number of all voxels. Of very many, a part is sampled for `low` and `high`.

    Returns:
        The spread; None if no value is finite.
    """
    step, parts = -(-count // _SAMPLES) or 1, []
    least, most = math.inf, -math.inf
    for block in blocks:
        parts.append(block.reshape(len(block), -1)[:, ::step].ravel().astype(np.float32))
        finite = block if block.dtype.kind != "f" else block[np.isfinite(block)]
        if finite.size:
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
    sample = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return None
    low = float(np.quantile(sample, _EXTREME, method="higher"))
    high = float(np.quantile(sample, 1 - _EXTREME, method="lower"))
    below = np.mean(sample < BELOW_WATER_HU) >= LEAST_BELOW
    like_hu = bool(below and np.mean(sample > _NO_TISSUE_HU) <= LEAST_BELOW)
    return Spread(
        datatype.name, datatype.kind != "f", least, most, min(low, high), max(low, high), like_hu
    )


def joined(path: Path, spreads: Sequence[Spread]) -> Spread:
    """The spread of the sides of a set together.

    Raises:
        BadInput: if the sides have different scales.
    """
    highs = [each.high for each in spreads]
    like_hu = any(each.like_hu for each in spreads)
    if min(highs) > 0 and max(highs) > _SIDES_APART * min(highs) and not like_hu:
        cause = f"has sides of different scales: values up to {highs[0]:.3g} and {highs[1]:.3g}"
        raise BadInput(path, cause, "Save both sides in one scale")
    names = sorted({each.datatype for each in spreads})
    return Spread(
        " and ".join(names), all(each.whole for each in spreads),
        min(each.least for each in spreads), max(each.most for each in spreads),
        min(each.low for each in spreads), max(highs), like_hu,
    )  # fmt: skip


def scale_of(path: Path, found: Spread, wanted: GreyWanted) -> Scale:
    """How images with these values are read in a window.

    Raises:
        BadInput: if the range of the values and the window do not fit, with the remedy.
    """
    window = wanted.window or (Window() if found.like_hu else TEN_THOUSANDTHS)
    if window.low_hu < 0:
        if not found.like_hu and not wanted.hu:
            cause = f"holds {found.words}, not Hounsfield units, but the window is {_ends(window)}"
            remedy = (
                f"Use a window of grey values ({_as_fields(TEN_THOUSANDTHS)}), or pass "
                "--assume-hu if it is in HU"
            )
            raise BadInput(path, cause, remedy)
        return Scale(1.0, f"read as HU of {found.datatype}", True, found.datatype, None, window)
    _refuse_negative(path, found, window)
    if window.low_hu != 0 or window.high_hu not in _WHOLE_SCALES:
        return _kept(path, found, window)
    top = _top(path, found, window, wanted.top(found.datatype))
    if found.high < _LEAST_FILLED * top:
        cause = f"holds {found.words}, which fill {max(found.high, 0) / top:.1%} of 0..{top}"
        raise BadInput(path, cause, "Scale them to floats in [0, 1]")
    told = f"read as grey values 0..{top:,} of {found.datatype}"
    if window.high_hu < 4095 and top != window.high_hu:
        told += f", rounded to whole ones of 0..{window.high_hu:g}"
    factor = window.high_hu / top
    return Scale(factor, told, False, found.datatype, top, window)


def stored(values: npt.NDArray[Any], scale: Scale) -> npt.NDArray[np.float64]:
    """The values as they are stored, rounded, before int16; NaN stays NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.rint(values.astype(np.float64) * scale.factor)


def _refuse_negative(path: Path, found: Spread, window: Window) -> None:
    fractions = not found.whole and found.high <= _FRACTIONS_END
    if found.low >= (_FRACTIONS_BELOW if fractions else min(_BELOW * found.high, 0)):
        return
    cause = f"holds {found.words}, but the window is {_ends(window)}"
    remedy = "Scale them to floats in [0, 1]"
    if found.like_hu:
        remedy = f"Use a window of HU ({_as_fields(Window())}), or scale them to floats in [0, 1]"
    raise BadInput(path, cause, remedy)


def _kept(path: Path, found: Spread, window: Window) -> Scale:
    """Values in a window that is no whole scale: they are its own."""
    wide = window.width_hu >= _FEWEST_STEPS
    fill = wide and found.high >= window.low_hu + _LEAST_FILLED * window.width_hu
    if not fill or found.low > window.high_hu or _is_fractions(found):
        cause = f"holds {found.words}, but the window is {_ends(window)}"
        remedy = f"Use a window of the whole scale: {_as_fields(TEN_THOUSANDTHS)}"
        raise BadInput(path, cause, remedy)
    told = f"read as grey values of {found.datatype}, kept as they are"
    return Scale(1.0, told, False, found.datatype, None, window)


def _is_fractions(found: Spread) -> bool:
    return not found.whole and found.high <= _FRACTIONS_END


def _top(path: Path, found: Spread, window: Window, recorded: int | None) -> int:
    """The top of the scale: that of the run if the values fit, else that of the values."""
    top = _by_values(found, int(window.high_hu))
    if recorded and _LEAST_FILLED * recorded <= found.high <= _OWN_MARGIN * recorded:
        top = recorded
    if top is None:
        cause = f"holds {found.words}, of no known scale (0..1, 8, 12 or 16 bits)"
        raise BadInput(path, cause, "Scale them to floats in [0, 1]")
    return top


def _by_values(found: Spread, own: int) -> int | None:
    if found.datatype == "uint8":
        return 255
    if found.whole:
        fits = [t for t in _TOPS if found.most <= t]
    else:
        if _FRACTIONS_END < found.high < _BYTES_BEGIN:
            return None
        fits = [top for top, most in _FLOATS_UP_TO.items() if found.high <= most]
    known = fits[0] if fits else None
    reached = found.most if found.whole else found.high
    if (known is None or own < known) and reached <= _OWN_MARGIN * own:
        return own
    return known


def _ends(window: Window) -> str:
    return f"[{window.low_hu:g}, {window.high_hu:g}]"


def _as_fields(window: Window) -> str:
    return f"window.low_hu={window.low_hu:g} window.high_hu={window.high_hu:g}"
