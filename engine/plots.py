"""Previews: figures for a visual check of a result."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from volumes.errors import one_line
from volumes.storage.atomic import whole_file
from volumes.volume import SpacingMm
from volumes.window import Window

_ZOOM = 0.35
_PLANE_IN, _MOST_PLANE_IN = 3.6, 10.0  # width of a plane, largest height
_LEAST_PLANE_IN = 0.3  # twice the height of a name
_FEWEST_SLICES = 4  # of which other planes are drawn
_BOX = {"facecolor": "black", "alpha": 0.6, "pad": 1, "linewidth": 0}  # behind text
_BARS_MM = (100, 50, 20, 10, 5, 2, 1)

MARKERS = "os^vD<>pX*Ph8d"  # of lines, one after the other

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
    spread = max(3 * float(np.std(residual_hu, dtype=np.float64)), 1.0)
    (low, high), unit = window.shown, window.unit_name
    names = [*images_hu, f"residual (±{spread:.0f} {unit})"]
    figure = empty_figure(3.2 * len(names), 6.9)
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


class Planes(NamedTuple):
    """The planes of a volume through one of its voxels.

    Attributes:
        axial: (Y, X).
        coronal: (Z, X).
        sagittal: (Z, Y).
    """

    axial: npt.NDArray[np.float32]
    coronal: npt.NDArray[np.float32]
    sagittal: npt.NDArray[np.float32]


def planes(
    path: Place, images_hu: dict[str, Planes], residual_hu: Planes, spacing_mm: SpacingMm,
    title: str, window: Window,
) -> None:  # fmt: skip
    """Draws three planes of volumes side by side, in true proportions and with a scale bar.

    All planes have the same scale. Coronal and sagittal planes of less than 4 slices, or hardly
    higher than their names, are left out.

    Args:
        path: of the PNG. An existing file is replaced. A buffer takes its bytes.
        images_hu: planes by name.
        residual_hu: the removed part, shown in its own window.
        spacing_mm: distance of neighbouring voxels along (Z, Y, X).
        title: of the figure.
        window: of the images. It determines the displayed range.
    """
    z, y, x = spacing_mm
    pixels_mm = {"axial": (y, x), "coronal": (z, x), "sagittal": (z, y)}
    spread = max(3 * float(np.std(residual_hu.axial, dtype=np.float64)), 1.0)
    (low, high), unit = window.shown, window.unit_name
    shown = {
        **{f"{name} [{low:g}, {high:g}] {unit}": (image, low, high)
           for name, image in images_hu.items()},
        f"residual ±{spread:.0f} {unit}": (residual_hu, -spread, spread),
    }  # fmt: skip
    every_mm = {plane: _size_mm(getattr(residual_hu, plane), mm) for plane, mm in pixels_mm.items()}
    tallest, widest = (max(sizes) for sizes in zip(*every_mm.values(), strict=True))
    per_mm = min(_PLANE_IN / widest, _MOST_PLANE_IN / tallest)  # inches
    deep = len(residual_hu.coronal) >= _FEWEST_SLICES
    rows = [plane for plane, (height, _) in every_mm.items()
            if plane == "axial" or (deep and per_mm * height >= _LEAST_PLANE_IN)]  # fmt: skip
    sizes_mm = [every_mm[row] for row in rows]
    heights = [max(per_mm * height, 0.1) for height, _ in sizes_mm]
    figure = empty_figure(max(per_mm * widest, 1.5) * len(shown), sum(heights) + 0.9)
    axes = figure.subplots(
        len(rows), len(shown), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for column, (name, (image, least, most)) in enumerate(shown.items()):
        for row, plane in enumerate(rows):
            axis, voxels = axes[row, column], getattr(image, plane)
            height_mm, width_mm = _size_mm(voxels, pixels_mm[plane])
            axis.imshow(
                voxels, cmap="gray", vmin=least, vmax=most, interpolation="none",
                extent=(0, width_mm, height_mm, 0), aspect="equal",
            )  # fmt: skip
            axis.set(xlim=(0, widest), xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            axis.text(
                0.01, 0.98, plane, transform=axis.transAxes, va="top", color="white", fontsize=8,
                bbox=_BOX,
            )  # fmt: skip
        _scale_bar(axes[0, column], *reversed(sizes_mm[0]))
        axes[0, column].set_title(plain(name), fontsize=10)
    figure.suptitle(plain(title), fontsize=10)
    save(figure, path, dpi=110)


def _size_mm(plane: npt.NDArray[np.float32], pixel_mm: tuple[float, float]) -> tuple[float, float]:
    """Height and width of a plane."""
    return plane.shape[0] * pixel_mm[0], plane.shape[1] * pixel_mm[1]


def _scale_bar(axis: Any, width_mm: float, height_mm: float) -> None:
    """A bar of a round length at the lower left."""
    length = next((mm for mm in _BARS_MM if mm <= width_mm / 3), None)
    if length is None:
        return
    left, low = 0.04 * width_mm, height_mm - 0.05 * width_mm
    axis.plot([left, left + length], [low, low], color="white", lw=3, solid_capstyle="butt")
    axis.plot([left, left + length], [low, low], color="black", lw=1, solid_capstyle="butt")
    axis.annotate(
        f"{length:g} mm", (left, low), xytext=(0, 4), textcoords="offset points", color="white",
        fontsize=8, bbox=_BOX,
    )  # fmt: skip


def empty_figure(width_in: float, height_in: float) -> Any:
    """A figure of matplotlib without a window: white, with constrained layout."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


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
