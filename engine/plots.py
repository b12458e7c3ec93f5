"""Previews: figures for a visual check of a result."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.errors import one_line
from volumes.storage.atomic import whole_file
from volumes.window import Window

_ZOOM = 0.35

Place = Path | io.BytesIO  # where a PNG is written


@dataclass(frozen=True)
class Figure:
    """A PNG, which a notebook shows.

    Attributes:
        png: its bytes.
    """

    png: bytes = field(repr=False)

    @classmethod
    def drawn(cls, draw: Callable[[Place], None]) -> Figure:
        """What a function draws into the place that it is given."""
        place = io.BytesIO()
        draw(place)
        return cls(place.getvalue())

    def save(self, path: str | Path) -> None:
        """Writes the PNG. An existing file is replaced.

        Raises:
            CannotWrite: if it cannot be written.
        """
        with whole_file(Path(path), overwrite=True) as file:
            file.write(self.png)

    def _repr_png_(self) -> bytes:
        return self.png


def panel(
    path: Place,
    images_hu: dict[str, npt.NDArray[np.float32]],
    residual_hu: npt.NDArray[np.float32],
    title: str,
    window: Window,
) -> None:
    """Draws slices side by side. Each is shown completely and with its centre enlarged.

    Args:
        path: of the PNG. An existing file is replaced. A buffer takes its bytes.
        images_hu: slices (Y, X) by name.
        residual_hu: the removed part (Y, X), shown in its own window.
        title: of the figure.
        window: of the images. It determines the displayed range.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    spread = max(3 * float(np.std(residual_hu, dtype=np.float64)), 1.0)
    (low, high), unit = window.shown, window.unit_name
    names = [*images_hu, f"residual (±{spread:.0f} {unit})"]
    figure = Figure(figsize=(3.2 * len(names), 6.9), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(names), squeeze=False)
    for column, (name, image) in enumerate(
        zip(names, [*images_hu.values(), residual_hu], strict=True)
    ):
        last = column == len(names) - 1
        ends = (-spread, spread) if last else (low, high)
        for row, shown in enumerate((image, middle(image))):
            axes[row, column].imshow(
                shown, cmap="gray", vmin=ends[0], vmax=ends[1], interpolation="none"
            )
            axes[row, column].set_axis_off()
        axes[0, column].set_title(plain(name))
    figure.suptitle(f"{plain(title)}   window [{low:g}, {high:g}] {unit}", fontsize=10)
    save(figure, path, dpi=110)


def plain(text: str) -> str:
    r"""The text for a figure: matplotlib reads no formula in it, and can draw each character.

    Names of files may hold dollar signs, line breaks, and bytes that are not UTF-8.

    Example:
        >>> print(plain("5$ or 6$, M\udcfcller"))
        5\$ or 6\$, M\udcfcller
    """
    return one_line(text).encode(errors="backslashreplace").decode().replace("$", r"\$")


def save(figure: Any, path: Place, *, dpi: int) -> None:
    """Writes a figure as PNG. An existing file is replaced. A buffer takes its bytes.

    Raises:
        CannotWrite: if it cannot be written.
    """
    place: Any = path if isinstance(path, io.BytesIO) else None
    with (
        warnings.catch_warnings(),
        nullcontext(place) if place else whole_file(Path(path), overwrite=True) as file,  # type: ignore[arg-type]
    ):
        # A name in another script or with an emoji: matplotlib draws a box for it.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support")
        figure.savefig(file, format="png", dpi=dpi)


def middle(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The central part of a slice (Y, X), which is shown enlarged."""
    y, x = (_about_middle(n) for n in image.shape)
    return image[y, x]


def _about_middle(size: int) -> slice:
    first = round(size * (1 - _ZOOM) / 2)
    return slice(first, max(round(size * (1 + _ZOOM) / 2), first + 1))
