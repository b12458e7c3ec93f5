"""Photographs: grey PNG files as volumes of one slice.

The literature compares denoisers on photographs (BSD68). As volumes, they can be used for training
and evaluation by the same code as scans. Grey values 0 ... 255 take the place of HU. In a window of
another whole scale, such as 0 to 10,000, they are mapped to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from volumes.dataset.grey_values import AS_FOUND, BYTES, GreyWanted, Scale, Spread, scale_of, stored
from volumes.errors import BadInput
from volumes.storage.read_errors import unreadable
from volumes.volume import HU, Shape, SpacingMm

_AGAIN = "Download or export it again"
_BYTES = Spread("uint8", True, 0, 255, 0, 255, False)


@dataclass(frozen=True)
class Photograph:
    """A grey PNG file. Its pixels are read on demand.

    Attributes:
        path: of the file.
        shape: (1, Y, X).
        scale: of its grey values.
        spacing_mm: 1 along every axis, because photographs have no spacing.
    """

    path: Path
    shape: Shape
    scale: Scale
    spacing_mm: SpacingMm = (1.0, 1.0, 1.0)

    def read_hu(self) -> tuple[HU, int]:
        """(1, Y, X) int16 grey values, and 0 saturated voxels.

        Raises:
            BadInput: if the file is damaged.
        """
        with _opened(self.path) as picture:
            picture.verify()  # decoding alone does not verify the checksums
        with _opened(self.path) as picture:
            return stored(np.asarray(picture, np.uint8)[None], self.scale).astype(np.int16), 0


def open_photograph(path: Path, wanted: GreyWanted = AS_FOUND) -> Photograph:
    """Opens a PNG file and checks its header. No pixel is read or allocated.

    Args:
        path: of the file.
        wanted: how its grey values are to be read; without a window, as they are.

    Raises:
        BadInput: if the file is not a PNG, or not 8-bit grey, or the window is not one of grey
            values.
    """
    with _opened(path) as picture:
        mode, (width, height) = picture.mode, picture.size
    if mode != "L":
        cause = f"has pixels of kind {mode}, not grey with 8 bits"
        raise BadInput(path, cause, "Convert it to 8-bit grey")
    return Photograph(path, (1, height, width), photograph_scale(path, wanted))


def photograph_scale(path: Path, wanted: GreyWanted) -> Scale:
    """The scale of photographs: 8 bits.

    Args:
        path: of a photograph or of a folder of them, for the refusal.
        wanted: how their grey values are to be read; without a window, as they are.

    Raises:
        BadInput: if the window is not one of grey values.
    """
    wanted = wanted if wanted.window else replace(wanted, window=BYTES)
    return scale_of(path, _BYTES, wanted)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with open(path, "rb") as file, Image.open(file, formats=("PNG",)) as picture:
            yield picture
    except OSError as error:
        if error.errno is not None:  # not Pillow's own
            raise unreadable(path, error) from error
        raise BadInput(path, f"cannot be read as PNG: {error}", _AGAIN) from error
    except Exception as error:  # Pillow raises many kinds of errors; each means an unusable file
        raise BadInput(path, f"cannot be read as PNG: {error}", _AGAIN) from error
