"""Photographs: grey PNG files as volumes of one slice.

The literature compares denoisers on photographs (BSD68). As volumes, they can be used for training
and evaluation by the same code as scans. Grey values 0 ... 255 take the place of HU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from volumes.errors import BadInput
from volumes.volume import HU, Shape, SpacingMm


@dataclass(frozen=True)
class Photograph:
    """A grey PNG file. Its pixels are read on demand.

    Attributes:
        path: of the file.
        shape: (1, Y, X).
        spacing_mm: 1 along every axis, because photographs have no spacing.
    """

    path: Path
    shape: Shape
    spacing_mm: SpacingMm = (1.0, 1.0, 1.0)

    def read_hu(self) -> tuple[HU, int]:
        """(1, Y, X) int16 grey values, and 0 saturated voxels.

        Raises:
            BadInput: if the file is damaged.
        """
        with _opened(self.path) as picture:
            picture.verify()  # decoding alone does not verify the checksums
        with _opened(self.path) as picture:
            return np.asarray(picture, np.uint8).astype(np.int16)[None], 0


def open_photograph(path: Path) -> Photograph:
    """Opens a PNG file and checks its header. No pixel is read or allocated.

    Raises:
        BadInput: if the file is not a PNG, or not 8-bit grey.
    """
    with _opened(path) as picture:
        mode, (width, height) = picture.mode, picture.size
    if mode != "L":
        cause = f"has pixels of kind {mode}, not grey with 8 bits"
        raise BadInput(path, cause, "Convert it to 8-bit grey")
    return Photograph(path, (1, height, width))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with open(path, "rb") as file, Image.open(file, formats=("PNG",)) as picture:
            yield picture
    except Exception as error:  # Pillow raises many kinds of errors; each means an unusable file
        cause = f"cannot be read as PNG: {error}"
        raise BadInput(path, cause, "Download or export it again") from error
