"""Files of a report: CSV, JSON, Markdown and figures."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.plots import Place
from engine.report import figures
from engine.report.html import report_body
from engine.report.markdown import markdown
from engine.report.page import page
from engine.report.results import Picture, Row
from engine.report.statistics import smallest_p
from engine.report.summary import Entries, remarks, summary
from engine.report.viewer import viewer
from engine.runs.metrics_file import strict
from volumes.storage.atomic import make_folder, replace_text
from volumes.window import Window


def write(
    folder: Path, about: dict[str, Any], rows: Sequence[Row], pictures: Sequence[Picture]
) -> list[Path]:
    """Writes scores.csv, report.json, report.md, report.html and the figures; returns their paths.

    noise_power.csv is written if the rows have spectra.

    Args:
        folder: created if it does not exist.
        about: description of the comparison, from `engine.comparison.evaluate`.
        rows: of the comparison.
        pictures: one for each noise level.

    Raises:
        CannotWrite: if a file cannot be written.
    """
    make_folder(folder)
    entries = summary(rows, about.get("oracles", ()))
    window = Window(**about["data_range"])
    spectra = noise_spectra(rows)
    drawn = {folder / f"{_slices(picture)}.png": picture for picture in pictures}
    paths = [
        replace_text(folder / "scores.csv", _csv(rows)),
        replace_text(folder / "report.json", _json(about, entries, rows)),
        replace_text(folder / "report.md", markdown(about, entries, drawn, spectra=bool(spectra))),
    ]
    for name, draw in drawings(rows, pictures, window).items():
        draw(folder / f"{name}.png")
        paths.append(folder / f"{name}.png")
    if spectra:
        paths.append(replace_text(folder / "noise_power.csv", _spectra_csv(rows)))
    body = _html(paths, pictures, window)
    for each in pictures:
        paths.append(folder / f"{closeup(each.level)}.png")
        figures.closeups(paths[-1], each.case, each.level, each.slices, window)
    paths.append(
        replace_text(folder / "report.html", page("Comparison of denoising methods", body))
    )
    return paths


def drawings(
    rows: Sequence[Row], pictures: Sequence[Picture], window: Window
) -> dict[str, Callable[[Place], None]]:
    """The figures of a comparison by name, each as a function that draws it into a place."""
    series: figures.Series = {}
    for row in rows:
        series.setdefault(row.method, {}).setdefault(row.level, []).append(row.scores["psnr_db"])
    found: dict[str, Callable[[Place], None]] = {
        **{_slices(picture): _drawing(picture, window) for picture in pictures},
        "cases": lambda place: figures.boxes(place, series),
    }
    if len({row.level for row in rows}) > 1:
        found["levels"] = lambda place: figures.levels(place, series)
    if spectra := noise_spectra(rows):
        unit = window.unit_name
        found["noise_power"] = lambda place: figures.noise_power(place, spectra, unit)
    return found


def _drawing(picture: Picture, window: Window) -> Callable[[Place], None]:
    return lambda place: figures.slices(place, picture.case, picture.level, picture.slices, window)


def closeup(level: str) -> str:
    """The name of the figure that enlarges the middle of a slice with a level of noise."""
    return f"closeup-{_file(level)}"


def _slices(picture: Picture) -> str:
    return f"slices-{_file(picture.level)}"


def _html(paths: Sequence[Path], pictures: Sequence[Picture], window: Window) -> str:
    """The body of report.html. The viewer stands for the figures of slices."""
    text = next(path for path in paths if path.name == "report.md").read_text("utf-8")
    shown = (path for path in paths if path.suffix == ".png" and path.stem[:7] != "slices-")
    drawn = {path.name: path.read_bytes() for path in shown}
    stacks = {
        f"{picture.case}, {picture.level} noise": picture.stack
        for picture in pictures
        if picture.stack is not None
    }
    return report_body(text, drawn, viewer(stacks, window) if stacks else "")


def noise_spectra(rows: Sequence[Row]) -> figures.Spectra:
    """The spectra of the first case that has some at each level, by level and method."""
    found: figures.Spectra = {}
    first: dict[str, str] = {}
    for row in rows:
        if row.noise is not None and first.setdefault(row.level, row.case) == row.case:
            found.setdefault(row.level, {})[row.method] = row.noise
    return found


def _file(level: str) -> str:
    return re.sub(r"[^\w.-]+", "-", level.replace("%", "pc"))


def _csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    # Only scanned levels have scores of attenuation.
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    writer.writerow(["method", "case", "level", *names])
    for row in rows:
        scores = (repr(row.scores[name]) if name in row.scores else "" for name in names)
        writer.writerow([row.method, row.case, row.level, *scores])
    return out.getvalue()


def _spectra_csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["method", "case", "level", "frequency_per_mm", "added_hu2_mm2", "removed_hu2_mm2"]
    )
    for row in rows:
        if row.noise is None:
            continue
        curves = (row.noise.frequency_per_mm, row.noise.added_hu2_mm2, row.noise.removed_hu2_mm2)
        for values in zip(*curves, strict=True):
            writer.writerow([row.method, row.case, row.level, *map(repr, values)])
    return out.getvalue()


def _json(about: dict[str, Any], entries: Entries, rows: Sequence[Row]) -> str:
    cases = min(entry["cases"] for entry in entries)
    content = {
        **about,
        "p_smallest": smallest_p(cases),
        "remarks": remarks(entries),
        "summary": entries,
        "rows": [asdict(row) for row in rows],
    }
    return json.dumps(strict(content), indent=2, allow_nan=False) + "\n"
