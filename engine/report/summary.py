"""Summary of a comparison: mean scores of each method over cases, and remarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.report.results import Row
from engine.report.statistics import interval, paired, smallest_p
from volumes.errors import listed

Entries = list[dict[str, Any]]

UNTOUCHED = "noisy"


def summary(rows: Sequence[Row], oracles: Sequence[str] = ()) -> Entries:
    """One entry for each method and level: mean, deviation and interval of each score over cases.

    `gain_db` is the gain in PSNR over the noisy scan, paired by case; None if the noisy scan was
    not compared. `p_to_best` is the p-value of the paired test of PSNR against the method with the
    highest mean at that level; None for that method itself.

    Args:
        rows: of the comparison.
        oracles: methods that were given the clean image; they cannot be the best.
    """
    entries: Entries = []
    for level in dict.fromkeys(row.level for row in rows):
        at = [row for row in rows if row.level == level]
        methods = list(dict.fromkeys(row.method for row in at))
        left_out = _undefined(at)
        held = [row for row in at if row.case not in left_out.get("psnr_db", ())]
        psnr = {m: [row.scores["psnr_db"] for row in held if row.method == m] for m in methods}
        # A method with a score that is not a number is not the best.
        fair = [m for m in methods if m not in oracles] or methods
        best = max(fair, key=lambda m: (not np.isnan(psnr[m]).any(), np.mean(psnr[m])))
        for method in methods:
            own = [row for row in at if row.method == method]
            values = {
                name: [row.scores[name] for row in own if row.case not in left_out.get(name, ())]
                for name in own[0].scores
            }
            gain = None
            if UNTOUCHED in psnr and method != UNTOUCHED:
                both = zip(psnr[method], psnr[UNTOUCHED], strict=True)
                gain = _spread([one - untouched for one, untouched in both])
            entries.append(
                {
                    "level": level,
                    "method": method,
                    "cases": len(own),
                    "p_to_best": None if method == best else paired(psnr[method], psnr[best]),
                    "gain_db": gain,
                    "left_out": left_out,
                    **{name: _spread(of) for name, of in values.items()},
                }
            )
    return entries


def _undefined(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The cases of one level for which a score is finite for no method, by the score's name.

    SSIM needs slices of 11 x 11 voxels. In air alone, the relative error has no meaning. Such cases
    are left out of the mean, unless none is left.
    """
    cases = list(dict.fromkeys(row.case for row in rows))
    found = {}
    for name in rows[0].scores:
        finite = {row.case for row in rows if np.isfinite(row.scores[name])}
        if finite and len(finite) < len(cases):
            found[name] = [case for case in cases if case not in finite]
    return found


def _spread(values: Sequence[float]) -> dict[str, Any]:
    with np.errstate(invalid="ignore"):  # an oracle's PSNR is infinite, and has no deviation
        std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "interval_95": interval(values)}


def remarks(entries: Entries) -> list[str]:
    """Sentences below the table: methods worse than their input, left out cases, about p."""
    return [*harm(entries), *left_out(entries), about_p(entries)]


def left_out(entries: Entries) -> list[str]:
    """Sentences on cases for which a score is undefined, one for each level."""
    found = {entry["level"]: entry["left_out"] for entry in entries if entry["left_out"]}
    return [
        f"Left out of means at {level}, because undefined: "
        + "; ".join(f"{name} of {listed(cases)}" for name, cases in scores.items())
        + "."
        for level, scores in found.items()
    ]


def harm(entries: Entries) -> list[str]:
    """A sentence on methods worse than their input; empty if the input was not compared."""
    if not any(entry["method"] == UNTOUCHED for entry in entries):
        return []
    # Written so that a gain that is NaN counts as worse.
    worse = [
        f"{entry['method']} at {entry['level']} ({entry['gain_db']['mean']:+.2f} dB)"
        for entry in entries
        if entry["gain_db"] is not None and not entry["gain_db"]["mean"] >= 0
    ]
    if worse:
        return [f"Worse than the untouched scan: {', '.join(worse)}."]
    return ["No method is worse than the untouched scan."]


def about_p(entries: Entries) -> str:
    """A sentence on the p-values and their least possible value."""
    cases = min(entry["cases"] for entry in entries)
    least = smallest_p(cases)
    if least is None:
        return "p: not tested, there is 1 case."
    return (
        "p: two-sided sign-flip permutation test of the paired PSNR differences to the best method "
        f"of that level, not corrected for the number of methods. {cases} cases allow no p below "
        f"{least:.3g}: a large p is no proof that two methods are equal."
    )
