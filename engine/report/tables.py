"""Tables of a comparison as text, for the terminal and the report."""

from __future__ import annotations

import math
from typing import Any

from engine.report.summary import UNTOUCHED, Entries
from engine.scoring.metrics import DISPLAY_WINDOWS
from engine.scoring.tissue_classes import TISSUE_HU

Table = tuple[list[str], list[list[str]]]

_DIGITS = {
    "psnr_db": 2, "ssim": 4, "relative_l2_percent": 2, "rmse_hu": 1, "bias_hu": 2,
    "rmse_soft_tissue_hu": 1,
    "residual_autocorrelation": 3, "residual_at_edges": 3, "psnr_mu_db": 2, "ssim_mu": 4,
    **{f"shift_{name}_hu": 1 for name in TISSUE_HU},
    "crossing_130_hu_percent": 2, "crossing_minus_950_hu_percent": 2,
}  # fmt: skip


def table(entries: Entries, unit: str) -> Table:
    """The table for the terminal. The files contain more columns."""
    scanned = any("psnr_mu_db" in entry for entry in entries)
    columns = [
        "method", "noise", "PSNR\n(dB)", "SSIM", "rel. L2\n(%)", f"RMSE\n({unit})",
        f"bias\n({unit})", *(["PSNR µ\n(dB)", "SSIM µ"] if scanned else []), "gain\n(dB)", "p",
    ]  # fmt: skip
    rows = [
        [
            entry["method"],
            entry["level"],
            _cell(entry, "psnr_db"),
            *(_mean(entry, name) for name in ("ssim", "relative_l2_percent", "rmse_hu", "bias_hu")),
            *([_mean(entry, name) for name in ("psnr_mu_db", "ssim_mu")] if scanned else []),
            "" if entry["gain_db"] is None else f"{entry['gain_db']['mean']:+.2f}",
            _p(entry),
        ]
        for entry in entries
    ]
    return columns, rows


def scores(entries: Entries, unit: str) -> Table:
    """Every score of every method and level."""
    columns = [
        "method", "noise", "PSNR (dB)", "SSIM", "relative L2 (%)", f"RMSE ({unit})",
        f"bias ({unit})", "gain (dB) [95 % interval]", "p",
    ]  # fmt: skip
    names = ("psnr_db", "ssim", "relative_l2_percent", "rmse_hu", "bias_hu")
    return columns, [
        [*_name(entry), *(_cell(entry, name) for name in names), _gain(entry), _p(entry)]
        for entry in entries
    ]


def windows(entries: Entries) -> Table:
    """PSNR in dB within the display windows."""
    titles = [
        f"{name.replace('_', ' ')} [{level - width / 2:g}, {level + width / 2:g}] HU"
        for name, (level, width) in DISPLAY_WINDOWS.items()
    ]
    rows = [
        [
            *_name(entry),
            *(_cell(entry, f"psnr_{name}_db", 2) for name in DISPLAY_WINDOWS),
            _cell(entry, "rmse_soft_tissue_hu"),
        ]
        for entry in entries
    ]
    return ["method", "noise", *titles, "RMSE of soft tissue (HU)"], rows


def fidelity(entries: Entries) -> Table:
    """Shift of each tissue class in HU, and the voxels that cross thresholds."""
    shifts = {f"shift_{name}_hu": f"{name.replace('_', ' ')} (HU)" for name in TISSUE_HU}
    crossings = {
        "crossing_130_hu_percent": "cross 130 HU (%)",
        "crossing_minus_950_hu_percent": "cross -950 HU (%)",
    }
    names = {**shifts, **crossings}
    return ["method", "noise", *names.values()], [
        [*_name(entry), *(_cell(entry, name) for name in names)]
        for entry in entries
        if all(name in entry for name in names)
    ]


def residuals(entries: Entries) -> Table:
    """Structure of the residual, for all methods but the untouched scan."""
    names = ("residual_autocorrelation", "residual_at_edges")
    return ["method", "noise", "autocorrelation", "at edges"], [
        [*_name(entry), *(_cell(entry, name) for name in names)]
        for entry in entries
        if entry["method"] != UNTOUCHED  # which has no residual
    ]


def attenuation(entries: Entries) -> Table:
    """The scores of attenuation, at scanned levels."""
    return ["method", "noise", "PSNR (dB)", "SSIM"], [
        [*_name(entry), _cell(entry, "psnr_mu_db"), _cell(entry, "ssim_mu")]
        for entry in entries
        if "psnr_mu_db" in entry
    ]


def _name(entry: dict[str, Any]) -> list[str]:
    return [entry["method"], entry["level"]]


def _mean(entry: dict[str, Any], name: str) -> str:
    return f"{entry[name]['mean']:.{_DIGITS[name]}f}" if name in entry else ""


def _cell(entry: dict[str, Any], name: str, digits: int | None = None) -> str:
    digits = _DIGITS[name] if digits is None else digits
    if math.isnan(entry[name]["mean"]):
        return "none"
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
