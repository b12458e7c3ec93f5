"""The report of a comparison: tables and figures that can go into a paper."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from engine import figures
from engine.comparison import Picture, Row
from engine.statistics import interval, paired
from volumes.atomic import make_folder, whole_file

_SHOWN = {
    "psnr_db": ("PSNR (dB)", 2),
    "ssim": ("SSIM", 4),
    "relative_l2_percent": ("relative L2 (%)", 3),
    "rmse_hu": ("RMSE (HU)", 1),
    "bias_hu": ("bias (HU)", 2),
    "psnr_soft_tissue_db": ("PSNR soft tissue (dB)", 2),
    "residual_autocorrelation": ("residual autocorr.", 3),
    "residual_at_edges": ("residual at edges", 3),
}


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry a method and level: mean, deviation and interval of each score over cases.

    `p_to_best` is the paired test of PSNR against the method of the highest mean at that level.
    """
    entries: list[dict[str, Any]] = []
    for sigma in dict.fromkeys(row.sigma for row in rows):
        at = [row for row in rows if row.sigma == sigma]
        methods = list(dict.fromkeys(row.method for row in at))
        psnr = {m: [row.scores["psnr_db"] for row in at if row.method == m] for m in methods}
        best = max(methods, key=lambda m: float(np.mean(psnr[m])))
        for method in methods:
            own = [row.scores for row in at if row.method == method]
            values = {name: [scores[name] for scores in own] for name in own[0]}
            entries.append(
                {
                    "sigma": sigma,
                    "method": method,
                    "cases": len(own),
                    "p_to_best": None if method == best else paired(psnr[method], psnr[best]),
                    **{name: _spread(of) for name, of in values.items()},
                }
            )
    return entries


def table(entries: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the summary, as text."""
    columns = ["method", "noise", *(title for title, _ in _SHOWN.values()), "p to best"]
    rows = []
    for entry in entries:
        cells = [entry["method"], f"{100 * entry['sigma']:g}%"]
        for name, (_, digits) in _SHOWN.items():
            cells.append(f"{entry[name]['mean']:.{digits}f} ± {entry[name]['std']:.{digits}f}")
        p = entry["p_to_best"]
        rows.append([*cells, "" if p is None else f"{p:.3f}"])
    return columns, rows


def write(
    folder: Path, about: dict[str, Any], rows: Sequence[Row], pictures: Sequence[Picture]
) -> list[Path]:
    """Writes scores.csv, report.json, report.md and the figures; returns their paths.

    Raises:
        CannotWrite: where the system refuses.
    """
    make_folder(folder)
    entries = summary(rows)
    columns, cells = table(entries)
    paths = [
        _text(folder / "scores.csv", _csv(rows)),
        _text(folder / "report.json", _json(about, entries, rows)),
        _text(folder / "report.md", _markdown(about, columns, cells)),
    ]
    for picture in pictures:
        path = folder / f"slices-{picture.sigma:g}.png"
        figures.slices(path, picture.case, picture.sigma, picture.slices)
        paths.append(path)
    series: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        series.setdefault(row.method, {}).setdefault(row.sigma, []).append(row.scores["psnr_db"])
    figures.boxes(folder / "cases.png", series)
    figures.levels(folder / "levels.png", series)
    return [*paths, folder / "cases.png", folder / "levels.png"]


def _spread(values: Sequence[float]) -> dict[str, Any]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "interval_95": interval(values)}


def _csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = list(rows[0].scores)
    writer.writerow(["method", "case", "sigma", *names])
    for row in rows:
        scores = (repr(row.scores[name]) for name in names)
        writer.writerow([row.method, row.case, row.sigma, *scores])
    return out.getvalue()


def _json(about: dict[str, Any], entries: Sequence[dict[str, Any]], rows: Sequence[Row]) -> str:
    content = {**about, "summary": entries, "rows": [asdict(row) for row in rows]}
    return json.dumps(content, indent=2) + "\n"


def _markdown(about: dict[str, Any], columns: list[str], cells: list[list[str]]) -> str:
    lines = [f"- {name}: {json.dumps(value)}" for name, value in about.items()]
    lines += ["", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(lines) + "\n"


def _text(path: Path, text: str) -> Path:
    with whole_file(path, overwrite=True) as file:
        file.write(text.encode())
    return path
