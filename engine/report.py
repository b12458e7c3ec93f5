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
from engine.journal import strict
from engine.metrics import DISPLAY_WINDOWS
from engine.statistics import interval, paired, smallest_p
from volumes.atomic import make_folder, whole_file

Entries = list[dict[str, Any]]
Table = tuple[list[str], list[list[str]]]

_DIGITS = {
    "psnr_db": 2, "ssim": 4, "relative_l2_percent": 2, "rmse_hu": 1, "bias_hu": 2,
    "residual_autocorrelation": 3, "residual_at_edges": 3,
}  # fmt: skip
_UNTOUCHED = "noisy"


# -- The summary -----------------------------------------------------------------------------------


def summary(rows: Sequence[Row]) -> Entries:
    """One entry a method and level: mean, deviation and interval of each score over cases.

    `gain_db` is the same of PSNR less that of the noisy scan, case by case; None where it was not
    compared. `p_to_best` is the paired test of PSNR against the method of the highest mean at that
    level; None for that method itself.
    """
    entries: Entries = []
    for level in dict.fromkeys(row.level for row in rows):
        at = [row for row in rows if row.level == level]
        methods = list(dict.fromkeys(row.method for row in at))
        psnr = {m: [row.scores["psnr_db"] for row in at if row.method == m] for m in methods}
        # A method that left the finite on a case is not the best, whatever its mean would be.
        best = max(methods, key=lambda m: (not np.isnan(psnr[m]).any(), np.mean(psnr[m])))
        for method in methods:
            own = [row.scores for row in at if row.method == method]
            values = {name: [scores[name] for scores in own] for name in own[0]}
            gain = None
            if _UNTOUCHED in psnr and method != _UNTOUCHED:
                both = zip(psnr[method], psnr[_UNTOUCHED], strict=True)
                gain = _spread([one - untouched for one, untouched in both])
            entries.append(
                {
                    "level": level,
                    "method": method,
                    "cases": len(own),
                    "p_to_best": None if method == best else paired(psnr[method], psnr[best]),
                    "gain_db": gain,
                    **{name: _spread(of) for name, of in values.items()},
                }
            )
    return entries


def _spread(values: Sequence[float]) -> dict[str, Any]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "interval_95": interval(values)}


def remarks(entries: Entries) -> list[str]:
    """What a reader of the table should not have to find out: sentences."""
    return [*harm(entries), _about_p(entries)]


def harm(entries: Entries) -> list[str]:
    """Which methods are worse than their input; no sentence where that was not compared."""
    if not any(entry["method"] == _UNTOUCHED for entry in entries):
        return []
    # Written so that a gain that is no number counts as harm.
    worse = [
        f"{entry['method']} at {entry['level']} ({entry['gain_db']['mean']:+.2f} dB)"
        for entry in entries
        if entry["gain_db"] is not None and not entry["gain_db"]["mean"] >= 0
    ]
    if worse:
        return [f"Worse than the untouched scan: {', '.join(worse)}."]
    return ["No method is worse than the untouched scan."]


def _about_p(entries: Entries) -> str:
    cases = min(entry["cases"] for entry in entries)
    least = smallest_p(cases)
    if least is None:
        return "p: not tested, there is 1 case."
    return (
        "p: two-sided sign-flip permutation test of the paired PSNR differences to the best method "
        f"of that level, not corrected for the number of methods. {cases} cases allow no p below "
        f"{least:.3g}: a large p is no proof that two methods are equal."
    )


# -- Tables ----------------------------------------------------------------------------------------


def table(entries: Entries) -> Table:
    """The columns and rows that fit a terminal; the rest is in the files."""
    columns = [
        "method", "noise", "PSNR\n(dB)", "SSIM", "rel. L2\n(%)", "RMSE\n(HU)", "bias\n(HU)",
        "gain\n(dB)", "p",
    ]  # fmt: skip
    rows = [
        [
            entry["method"],
            entry["level"],
            _cell(entry, "psnr_db"),
            *(_mean(entry, name) for name in ("ssim", "relative_l2_percent", "rmse_hu", "bias_hu")),
            "" if entry["gain_db"] is None else f"{entry['gain_db']['mean']:+.2f}",
            _p(entry),
        ]
        for entry in entries
    ]
    return columns, rows


def _scores(entries: Entries) -> Table:
    columns = [
        "method", "noise", "PSNR (dB)", "SSIM", "relative L2 (%)", "RMSE (HU)",
        "bias (HU)", "gain (dB) [95 % interval]", "p",
    ]  # fmt: skip
    names = ("psnr_db", "ssim", "relative_l2_percent", "rmse_hu", "bias_hu")
    return columns, [
        [*_name(entry), *(_cell(entry, name) for name in names), _gain(entry), _p(entry)]
        for entry in entries
    ]


def _windows(entries: Entries) -> Table:
    titles = [
        f"{name.replace('_', ' ')} [{level - width / 2:g}, {level + width / 2:g}] HU"
        for name, (level, width) in DISPLAY_WINDOWS.items()
    ]
    rows = [
        [*_name(entry), *(_cell(entry, f"psnr_{name}_db", 2) for name in DISPLAY_WINDOWS)]
        for entry in entries
    ]
    return ["method", "noise", *titles], rows


def _residuals(entries: Entries) -> Table:
    names = ("residual_autocorrelation", "residual_at_edges")
    return ["method", "noise", "autocorrelation", "at edges"], [
        [*_name(entry), *(_cell(entry, name) for name in names)]
        for entry in entries
        if entry["method"] != _UNTOUCHED  # which has no residual
    ]


def _name(entry: dict[str, Any]) -> list[str]:
    return [entry["method"], entry["level"]]


def _mean(entry: dict[str, Any], name: str) -> str:
    return f"{entry[name]['mean']:.{_DIGITS[name]}f}"


def _cell(entry: dict[str, Any], name: str, digits: int | None = None) -> str:
    digits = _DIGITS[name] if digits is None else digits
    return f"{entry[name]['mean']:.{digits}f} ± {entry[name]['std']:.{digits}f}"


def _gain(entry: dict[str, Any]) -> str:
    gain = entry["gain_db"]
    if gain is None:
        return ""
    if gain["interval_95"] is None:
        return f"{gain['mean']:+.2f}"
    low, high = gain["interval_95"]
    return f"{gain['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"


def _p(entry: dict[str, Any]) -> str:
    return "" if entry["p_to_best"] is None else f"{entry['p_to_best']:.3f}"


# -- The files -------------------------------------------------------------------------------------


def write(
    folder: Path, about: dict[str, Any], rows: Sequence[Row], pictures: Sequence[Picture]
) -> list[Path]:
    """Writes scores.csv, report.json, report.md and the figures; returns their paths.

    Args:
        folder: made where it is not there.
        about: what was compared and how, as `engine.selection` tells it.
        rows: of the comparison.
        pictures: one a level of noise.

    Raises:
        CannotWrite: where the system refuses.
    """
    make_folder(folder)
    entries = summary(rows)
    drawn = {folder / f"slices-{_file(picture.level)}.png": picture for picture in pictures}
    paths = [
        _text(folder / "scores.csv", _csv(rows)),
        _text(folder / "report.json", _json(about, entries, rows)),
        _text(folder / "report.md", _markdown(about, entries, drawn)),
    ]
    for path, picture in drawn.items():
        figures.slices(path, picture.case, picture.level, picture.slices)
    series: figures.Series = {}
    for row in rows:
        series.setdefault(row.method, {}).setdefault(row.level, []).append(row.scores["psnr_db"])
    figures.boxes(folder / "cases.png", series)
    figures.levels(folder / "levels.png", series)
    return [*paths, *drawn, folder / "cases.png", folder / "levels.png"]


def _file(level: str) -> str:
    return level.replace("%", "pc")


def _csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = list(rows[0].scores)
    writer.writerow(["method", "case", "level", *names])
    for row in rows:
        scores = (repr(row.scores[name]) for name in names)
        writer.writerow([row.method, row.case, row.level, *scores])
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


def _markdown(about: dict[str, Any], entries: Entries, drawn: dict[Path, Picture]) -> str:
    """A supplement: how it was measured, then captioned tables and figures."""
    cases = len(about["cases"])
    high = about["data_range"]["high_hu"]
    over = f"mean ± standard deviation over {cases} {'case' if cases == 1 else 'cases'}"
    parts = [
        "# Comparison of denoising methods",
        *_methods(about),
        f"**Table 1.** Scores of each method, {over}. Gain: PSNR less that of the untouched scan, "
        "paired by case, with its 95 % bootstrap interval over cases. Bias: mean of estimate - "
        f"clean. {_about_p(entries)}",
        _grid(_scores(entries)),
        *harm(entries),
        *(_of_windows(entries, over, high) if "psnr_lung_db" in entries[0] else []),
        f"**Table 3.** What the residual (noisy - estimate) holds, {over}; without unit.",
        "- Autocorrelation: correlation of neighbouring voxels within slices. 0 where white noise "
        "and nothing else was removed.\n- At edges: correlation of the residual's size with the "
        "gradient of the clean image. 0 where it follows no anatomy; above, anatomy was "
        "removed; below, noise was left at edges.",
        _grid(_residuals(entries)),
        "**Table 4.** Settings of each method.",
        _grid(_settings(about)),
        *_figures(drawn),
    ]
    return "\n\n".join(parts) + "\n"


def _of_windows(entries: Entries, over: str, high_hu: float) -> list[str]:
    return [
        f"**Table 2.** PSNR (dB) of what radiologists' display windows show, {over}. The data "
        f"range is the width of each display window. Clean images end at {high_hu:g} HU: what is "
        "denser is not judged.",
        _grid(_windows(entries)),
    ]


def _methods(about: dict[str, Any]) -> list[str]:
    low, high = about["data_range"]["low_hu"], about["data_range"]["high_hu"]
    cases = about["cases"]
    levels = "; ".join(f"{label}: {told}" for label, told in about["levels"].items())
    tuned = ", ".join(about["tuned_on"])
    tuned = (
        f"Those of classical methods were chosen, for least mean squared error, on {tuned}."
        if tuned
        else "None were chosen on data: classical methods have their usual ones."
    )
    prior = ", ".join(f"{name} {value}" for name, value in about["prior"].items())
    return [
        f"**Cases.** {len(cases)} ({about['split']}): {', '.join(cases)}. The sha256 of their "
        f"files stands in report.json. Scored: {_scored(about)}.",
        f"**Noise.** {levels}. Simulated noise has seed {about['noise_seed']}; that of a slice is "
        "a function of seed, case and slice alone: every method is given the same.",
        f"**Scores.** Data range: the window [{low:g}, {high:g}] HU, {high - low:g} HU wide, to "
        "which clean image and estimate are clipped (not for the bias). PSNR and RMSE are those of "
        "all scored voxels of a case; relative L2 is 100 ||estimate - clean|| / ||clean||. SSIM: "
        f"{about['ssim']}, mean over slices.",
        f"**Parameters.** {tuned} Prior of classical methods for which no other was named: mean of "
        f"neighbouring slices, {prior}.",
    ]


def _scored(about: dict[str, Any]) -> str:
    if about["protocol"] == "reference":
        return "the first slice of a central crop of 32 x 256 x 256 voxels"
    if about["slices"] == "all":
        return "all slices of the whole volumes"
    return f"{about['slices']} slices about the middle of each volume"


def _settings(about: dict[str, Any]) -> Table:
    rows = [
        [name, level, f"`{setting}`"]
        for level, chosen in about["settings"].items()
        for name, setting in chosen.items()
    ]
    return ["method", "noise", "setting"], rows


def _figures(drawn: dict[Path, Picture]) -> list[str]:
    captions = {
        path.name: f"Middle of the scored slices of {picture.case} at {picture.level} "
        "noise: each image whole, enlarged about its middle, and the residual."
        for path, picture in drawn.items()
    }
    captions["cases.png"] = (
        "PSNR (dB) of each case. Boxes: quartiles and median; dashed: mean of the untouched scan."
    )
    captions["levels.png"] = (
        "Mean PSNR (dB) against noise. Below the dashed line a method does harm."
    )
    return [
        f"**Figure {number}.** {caption}\n\n![Figure {number}]({name})"
        for number, (name, caption) in enumerate(captions.items(), 1)
    ]


def _grid(content: Table) -> str:
    columns, rows = content
    rule = "|---|" + "---:|" * (len(columns) - 1)
    escaped = ([cell.replace("|", r"\|") for cell in row] for row in (columns, *rows))
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([lines[0], rule, *lines[1:]])


def _text(path: Path, text: str) -> Path:
    with whole_file(path, overwrite=True) as file:
        file.write(text.encode())
    return path
