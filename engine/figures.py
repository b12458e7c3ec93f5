"""Figures of a comparison, for the eye that does not trust a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.preview import HIGH_HU, LOW_HU, middle
from volumes.atomic import whole_file
from volumes.volume import Unit

Series = dict[str, dict[float, list[float]]]


def slices(path: Path, case: str, sigma: float, images_hu: dict[str, Unit]) -> None:
    """Each image whole, enlarged about its middle, and what was removed, all in one window.

    Args:
        path: of the PNG, replaced where it exists.
        case: name of the case.
        sigma: of the noise, as a fraction of the window.
        images_hu: slices (Y, X) by name; "clean" and "noisy" come first.
    """
    noisy = images_hu["noisy"]
    spread = 3 * float(np.std(noisy - images_hu["clean"])) or 1.0
    figure, axes = _figure(3, len(images_hu))
    for column, (name, image) in enumerate(images_hu.items()):
        for row, shown in enumerate((image, middle(image))):
            axes[row, column].imshow(shown, cmap="gray", vmin=LOW_HU, vmax=HIGH_HU)
        axes[2, column].imshow(noisy - image, cmap="gray", vmin=-spread, vmax=spread)
        axes[0, column].set_title(name)
    for axis in axes.flat:
        axis.set_axis_off()
    title = (
        f"{case}, noise {100 * sigma:g}%   window [{LOW_HU}, {HIGH_HU}] HU, "
        f"residuals ±{spread:.0f} HU"
    )
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def boxes(path: Path, series: Series) -> None:
    """PSNR per case of every method, a panel a level of noise."""
    sigmas = list(next(iter(series.values())))
    figure, axes = _figure(1, len(sigmas))
    for axis, sigma in zip(axes[0], sigmas, strict=True):
        values = [found[sigma] for found in series.values()]
        axis.boxplot(values, tick_labels=list(series))
        for i, points in enumerate(values, 1):
            axis.plot([i] * len(points), points, "k.", alpha=0.6)
        axis.set(title=f"noise {100 * sigma:g}%", ylabel="PSNR (dB), window units")
        axis.tick_params(axis="x", rotation=60)
    _save(figure, path)


def levels(path: Path, series: Series) -> None:
    """Mean PSNR against the level of noise; below the noisy line a method does harm."""
    figure, axes = _figure(1, 1, width=7.0)
    for name, found in series.items():
        means = [float(np.mean(values)) for values in found.values()]
        style = "k--" if name == "noisy" else "o-"
        axes[0, 0].plot([100 * sigma for sigma in found], means, style, label=name)
    axes[0, 0].set(xlabel="noise (% of the window)", ylabel="PSNR (dB), window units")
    axes[0, 0].legend()
    _save(figure, path)


def _figure(rows: int, columns: int, width: float = 3.2) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, 3.3 * rows + 1), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _save(figure: Any, path: Path) -> None:
    with whole_file(path, overwrite=True) as file:
        figure.savefig(file, format="png", dpi=110)
