"""Figures of a characterisation: images, noise power, task transfer, HU and detectability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.characterization.quantities import Found
from engine.comparison.methods import RECONSTRUCTION
from engine.plots import MARKERS, empty_figure, plain, save
from volumes.tomography.photon_noise import dose_text

_DPI = 120
_MOST_COLUMNS = 4


def images(path: Path, found: Found, photons: float) -> None:
    """Figure of one realisation, the mean of all, and the 2D noise power of every method."""
    columns = len(found)
    figure = empty_figure(2.3 * columns + 0.4, 7.4)
    axes = figure.subplots(3, columns, squeeze=False)
    first = found[RECONSTRUCTION][photons]
    spread = 3 * first.noise.sigma_hu
    for column, (name, by_dose) in zip(axes.T, found.items(), strict=True):
        one = by_dose[photons]
        assert one.pictures is not None
        image, mean = one.pictures
        column[0].imshow(image, cmap="gray", vmin=-spread, vmax=spread)
        column[1].imshow(mean, cmap="gray", vmin=-10, vmax=20)
        power = one.noise.power_hu2_mm2
        column[2].imshow(power / power.max(), cmap="magma", vmin=0, vmax=1)
        column[0].set_title(plain(name), fontsize=9)
        for axis in column:
            axis.set(xticks=[], yticks=[])
    for axis, text in zip(
        axes[:, 0],
        (f"one image, ±{spread:.0f} HU", "mean, -10 to 20 HU", "2D NPS / its maximum"),
        strict=True,
    ):
        axis.set_ylabel(text, fontsize=8)
    figure.suptitle(f"low-contrast module at {dose_text(photons)} photons a ray", fontsize=10)
    save(figure, path, dpi=_DPI)


def noise_power_curves(path: Path, found: Found) -> None:
    """Figure of radial noise power (HU^2 mm^2), and of its shape (of area 1), a column a dose."""
    doses = list(next(iter(found.values())))
    figure = empty_figure(3.6 * len(doses) + 1.4, 6.0)
    axes = figure.subplots(2, len(doses), squeeze=False)
    for (upper, lower), photons in zip(axes.T, doses, strict=True):
        for i, (name, by_dose) in enumerate(found.items()):
            frequency, power = by_dose[photons].noise.radial
            upper.plot(frequency, power, **_style(i, name), markevery=4)
            area = float(np.trapezoid(power, frequency))
            lower.plot(frequency, power / area if area else power, **_style(i, name), markevery=4)
        upper.set(title=f"{dose_text(photons)} photons a ray", yscale="log", ylabel="NPS (HU² mm²)")
        lower.set(xlabel="frequency (1/mm)", ylabel="NPS / its area (mm)")
    _decorate(figure, axes)
    save(figure, path, dpi=_DPI)


def transfer_curves(path: Path, found: Found, photons: float) -> None:
    """Figure of the task transfer function of every insert, a panel an insert, at one dose."""
    first = found[RECONSTRUCTION][photons]
    names = sorted(first.transfers, key=lambda name: -abs(first.transfers[name].contrast_hu))
    figure, axes = _panels(len(names))
    for axis, insert in zip(axes.flat, names, strict=False):
        for i, (name, by_dose) in enumerate(found.items()):
            one = by_dose[photons].transfers[insert]
            if one.measurable:
                axis.plot(one.frequency_per_mm, one.transfer, **_style(i, name), markevery=8)
        for level in (0.5, 0.1):
            axis.axhline(level, color="k", lw=0.5, ls=":")
        axis.set(title=plain(insert), ylim=(0, 1.3), xlabel="frequency (1/mm)", ylabel="TTF")
    _decorate(figure, axes)
    figure.suptitle(f"task transfer function at {dose_text(photons)} photons a ray", fontsize=10)
    save(figure, path, dpi=_DPI)


def hu_errors(path: Path, found: Found, photons: float) -> None:
    """Figure of the HU bias of every insert, with 95 % intervals, at one dose."""
    inserts = list(next(iter(found.values()))[photons].hu)
    figure = empty_figure(8.5, 3.6)
    axis = figure.subplots()
    for i, (name, by_dose) in enumerate(found.items()):
        hu = by_dose[photons].hu
        places = np.arange(len(inserts)) + (i - len(found) / 2) * 0.8 / len(found)
        axis.errorbar(
            places, [hu[insert].bias_hu for insert in inserts],
            yerr=[hu[insert].half_width_hu for insert in inserts],
            **{**_style(i, name), "linestyle": "none"}, capsize=2,
        )  # fmt: skip
    axis.axhline(0, color="k", lw=0.6)
    labels = [f"{plain(insert)}\n{hu[insert].nominal_hu:g}" for insert in inserts]
    axis.set_xticks(range(len(inserts)), labels, fontsize=8)
    if (
        max(abs(one.bias_hu) for by_dose in found.values() for one in by_dose[photons].hu.values())
        > 30
    ):
        # Errors differ by orders of magnitude, and the small ones matter for soft tissue.
        axis.set_yscale("symlog", linthresh=10)
    axis.set(ylabel="HU - nominal HU")
    axis.set_title(f"{dose_text(photons)} photons a ray", fontsize=10)
    _decorate(figure, np.array([[axis]]))
    save(figure, path, dpi=_DPI)


def detectability(path: Path, found: Found, names: Sequence[str]) -> None:
    """Figure of the AUC of the channelised Hotelling observer against dose, a panel a rod."""
    figure, axes = _panels(len(names))
    full = found[RECONSTRUCTION][max(found[RECONSTRUCTION])]
    for axis, rod in zip(axes.flat, names, strict=False):
        for i, (name, by_dose) in enumerate(found.items()):
            doses = np.array(list(by_dose))
            seen = [by_dose[photons].detected[rod].hotelling for photons in doses]
            auc = np.array([one.auc for one in seen])
            ends = np.array([one.auc_interval for one in seen]).T
            axis.errorbar(
                doses * 1.02 ** (i - len(found) / 2), auc,
                yerr=np.abs(ends - auc), **_style(i, name), capsize=2,
            )  # fmt: skip
        axis.axhline(full.detected[rod].hotelling.auc, color="k", ls="--", lw=0.7)
        axis.set(title=plain(rod), xscale="log", xlabel="photons a ray", ylabel="AUC")
        axis.set_ylim(0.45, 1.02)
    _decorate(figure, axes)
    save(figure, path, dpi=_DPI)


def _style(i: int, name: str) -> dict[str, Any]:
    black = name == RECONSTRUCTION
    return {
        "color": "k" if black else f"C{(i - 1) % 10}", "marker": MARKERS[i % len(MARKERS)],
        "markersize": 4, "lw": 1.6 if black else 1.1, "label": plain(name),
    }  # fmt: skip


def _panels(count: int) -> tuple[Any, Any]:
    columns = min(count, _MOST_COLUMNS)
    rows = math.ceil(count / columns)
    figure = empty_figure(2.9 * columns + 1.4, 2.7 * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes


def _decorate(figure: Any, axes: Any) -> None:
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
        axis.title.set_fontsize(9)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8)
