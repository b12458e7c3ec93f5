"""Packed slices: 16-bit HU as text within an HTML page, of which a browser shows any window.

Images of 8 bits hold one window. PNG of 16 bits lose half of them in a browser's canvas. So each
slice is the differences of neighbouring voxels, zigzag coded, low bytes before high bytes, deflated
(RFC 1950) and in base64. `viewer.js` unpacks it. HU are rounded to whole numbers.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_ENDS = np.iinfo(np.int16)


def packed(slice_hu: npt.NDArray[Any]) -> str:
    """A slice, (Y, X) HU, as text. What int16 cannot hold is saturated; NaN becomes -32768.

    Example:
        >>> list(zlib.decompress(base64.b64decode(packed(np.array([[1, 1, -1]])))))
        [2, 0, 3, 0, 0, 0]
    """
    return base64.b64encode(zlib.compress(_coded(slice_hu), 9)).decode("ascii")


def _coded(slice_hu: npt.NDArray[Any]) -> bytes:
    finite = np.nan_to_num(slice_hu, nan=_ENDS.min, posinf=_ENDS.max, neginf=_ENDS.min)
    whole = np.clip(np.rint(finite), _ENDS.min, _ENDS.max).astype(np.int16)
    with np.errstate(over="ignore"):  # differences wrap around, and so do their sums
        steps = np.diff(whole.ravel(), prepend=np.int16(0)).astype(np.int16)
        zigzag = ((steps << 1) ^ (steps >> 15)).astype(np.uint16)
    return bytes((zigzag & 255).astype(np.uint8)) + bytes((zigzag >> 8).astype(np.uint8))
