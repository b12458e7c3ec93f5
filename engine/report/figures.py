"""Figures of a comparison: slices, box plots, and PSNR against noise."""

from __future__ import annotations

import math
import textwrap

import numpy as np

from engine.plots import MARKERS, Place, empty_figure, middle, plain, save
from engine.scoring.removed_noise import RemovedNoise
from volumes.volume import Unit
from volumes.window import Window

Series = dict[str, dict[str, list[float]]]
Spectra = dict[str, dict[str, RemovedNoise]]

_DPI = 120
_MOST_COLUMNS = 5  # that fit a page
_MOST_CLOSEUPS = 4
_SLICE_IN = 2.5
_LINES = ("-", ":", "-.")  # "--" is reserved for the untouched scan
_NAME_LETTERS = 28


def slices(path: Place, case: str, level: str, images_hu: dict[str, Unit], window: Window) -> None:
    """Figure of slices: each image whole, enlarged about its middle, and its residual.

    Args:
        path: of the PNG, replaced if it exists; or a buffer.
        case: name of the case.
        level: of the noise, such as "10%".
        images_hu: slices (Y, X) by name; "clean" and "noisy" come first.
        window: of the images; its `shown` part is displayed.
    """
    (low, high), unit = window.shown, window.unit_name
    noisy = images_hu["noisy"]
    noise_hu = float(np.std(noisy - images_hu["clean"]))
    spread = 3 * noise_hu or 1.0
    bands, columns = _grid(len(images_hu), _MOST_COLUMNS)
    height, width = noisy.shape
    tall = _SLICE_IN * min(max(height / width, 0.5), 2.0)
    figure = empty_figure(_SLICE_IN * columns + 0.3, bands * (3 * tall + 0.5) + 0.7)
    for band, part in enumerate(np.ravel(figure.subfigures(bands, 1))):
        axes = part.subplots(3, columns, squeeze=False)
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, label in zip(axes[:, 0], ("slice", "its middle", "residual"), strict=True):
            axis.set_ylabel(label, fontsize=9)
        shown = list(images_hu.items())[band * columns : (band + 1) * columns]
        for (name, image), (whole, near, removed) in zip(shown, axes.T, strict=False):
            grey = {"cmap": "gray", "vmin": low, "vmax": high}
            whole.imshow(image, **grey)
            near.imshow(middle(image), interpolation="nearest", **grey)
            removed.imshow(noisy - image, cmap="gray", vmin=-spread, vmax=spread)
            whole.set_title(_name(name), fontsize=10)
    title = (
        f"{plain(case)}, middle of its scored slices; noise {level} ({noise_hu:.0f} {unit})\n"
        f"window [{low:g}, {high:g}] {unit}; residual = noisy - image, within ±{spread:.0f} {unit}"
    )
    figure.suptitle(title, fontsize=11)
    save(figure, path, dpi=_DPI)


def closeups(
    path: Place, case: str, level: str, images_hu: dict[str, Unit], window: Window
) -> None:
    """Figure of the middle of a slice, enlarged, of each image: the small one for a card.

    Args:
        path: of the PNG, replaced if it exists; or a buffer.
        case: name of the case.
        level: of the noise, such as "10%".
        images_hu: slices (Y, X) by name; "clean" and "noisy" come first.
        window: of the images; its `shown` part is displayed.
    """
    low, high = window.shown
    rows, columns = _grid(len(images_hu), _MOST_CLOSEUPS)
    figure = empty_figure(_SLICE_IN * columns, rows * (_SLICE_IN + 0.3) + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, image) in zip(axes.flat, images_hu.items(), strict=False):
        axis.imshow(middle(image), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(_name(name), fontsize=10)
    title = f"{plain(case)}, noise {level}, [{low:g}, {high:g}] {window.unit_name}"
    figure.suptitle(title, fontsize=10)
    save(figure, path, dpi=_DPI)


def boxes(path: Place, series: Series) -> None:
    """Box plots of the PSNR of cases, a panel for each noise level; dashed: mean of the noisy scan.

    Args:
        path: of the PNG, replaced if it exists; or a buffer.
        series: PSNR of every case in dB, by method and level of noise.
    """
    shown = list(next(iter(series.values())))
    rows, columns = _grid(len(shown), 3)
    tall = 1.2 + 0.28 * len(series)
    figure = empty_figure(1.6 + 3.2 * columns, rows * tall)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, level in zip(axes.flat, shown, strict=False):
        values = [found[level] for found in series.values()]
        axis.boxplot(
            [[value for value in points if math.isfinite(value)] for points in values],
            orientation="horizontal",
            widths=0.6,
            showfliers=False,
            manage_ticks=False,
        )
        for i, points in enumerate(values, 1):
            axis.plot(points, [i] * len(points), "k.", alpha=0.6, markersize=4)
        if "noisy" in series:
            axis.axvline(float(np.mean(series["noisy"][level])), color="k", ls="--", lw=0.8)
        axis.set(title=f"noise {level}", xlabel="PSNR of each case (dB)")
        axis.grid(axis="x", alpha=0.3)
    # The axis is shared by all panels; the first method is on top.
    axes[0, 0].set(ylim=(len(series) + 0.6, 0.4))
    axes[0, 0].set_yticks(range(1, len(series) + 1), [_name(name) for name in series])
    save(figure, path, dpi=_DPI)


def levels(path: Place, series: Series) -> None:
    """Plot of mean PSNR against noise; below the dashed line a method is worse than its input.

    Args:
        path: of the PNG, replaced if it exists; or a buffer.
        series: PSNR of every case in dB, by method and level of noise, of which there are several.
    """
    figure = empty_figure(9.5, max(5.0, 1.0 + 0.24 * len(series)))
    axis = figure.subplots()
    labels, places = _places(list(next(iter(series.values()))))
    means = {
        name: [float(np.mean(found[label])) for label in labels] for name, found in series.items()
    }
    methods = [name for name in means if name != "noisy"]
    for name, mean in means.items():
        if name == "noisy":
            axis.plot(places, mean, "k--", lw=1.5, label="noisy (untouched)")
            continue
        i = methods.index(name)
        axis.plot(
            places, mean, markersize=6, lw=1.2, label=_name(name), **_line(i),
        )  # fmt: skip
    axis.set(xlabel="noise", ylabel="mean PSNR (dB)", xticks=places, xticklabels=labels)
    axis.grid(alpha=0.3)
    # The legend has the order of the lines at the strongest noise.
    lines = sorted(axis.get_lines(), key=lambda line: -line.get_ydata()[-1])
    axis.legend(handles=lines, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    save(figure, path, dpi=_DPI)


def noise_power(path: Place, spectra: Spectra, unit: str = "HU") -> None:
    """Plot of the noise power of what each method removed, a panel for each noise level.

    Dashed: the noise that was added.

    Args:
        path: of the PNG, replaced if it exists; or a buffer.
        spectra: by noise level and method.
        unit: of the images.
    """
    rows, columns = _grid(len(spectra), 3)
    figure = empty_figure(1.6 + 4 * columns, 0.8 + 3.4 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(spectra) :]:
        axis.set_visible(False)
    for axis, (level, found) in zip(axes.flat, spectra.items(), strict=False):
        one = next(iter(found.values()))
        axis.plot(one.frequency_per_mm, one.added_hu2_mm2, "k--", lw=1.5, label="added noise")
        methods = [name for name in found if any(found[name].removed_hu2_mm2)]
        for i, name in enumerate(methods):
            axis.plot(
                found[name].frequency_per_mm, found[name].removed_hu2_mm2, label=_name(name),
                lw=1.2, markersize=4, **_line(i),
            )  # fmt: skip
        axis.set(title=f"noise {level}", xlabel="frequency (cycles/mm)", ylim=(0, None))
        axis.set_ylabel(f"removed noise power ({unit}² mm²)")
        axis.grid(alpha=0.3)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 * columns)
    save(figure, path, dpi=_DPI)


def _line(i: int) -> dict[str, str]:
    """The look of the i-th line: lines differ by marker, then by colour, then by dashes."""
    marker, line = MARKERS[i % len(MARKERS)], _LINES[i // 10 % len(_LINES)]
    return {"color": f"C{i % 10}", "marker": marker, "linestyle": line}


def _places(labels: list[str]) -> tuple[list[str], list[float]]:
    """Positions of levels along an axis: their percentages, else 0, 1, 2, ..."""
    try:
        place = {label: float(label.removesuffix("%")) for label in labels}
    except ValueError:
        return labels, [float(i) for i in range(len(labels))]
    ordered = sorted(labels, key=place.__getitem__)
    return ordered, [place[label] for label in ordered]


def _grid(count: int, most: int) -> tuple[int, int]:
    """Rows and columns for a number of panels, with rows of similar length."""
    rows = math.ceil(count / most)
    return rows, math.ceil(count / rows)


def _name(name: str) -> str:
    """The name of a method. Matplotlib leaves a name that begins with "_" out of a legend."""
    filled = textwrap.fill(plain(name), _NAME_LETTERS)
    return f" {filled}" if filled.startswith("_") else filled
