"""Card of a network: what it learned from, what reports measured of it, and where it fails.

The idea is that of Mitchell et al., "Model cards for model reporting", FAT* 2019. Every figure is
taken from reports of `engine evaluate` and `engine characterize`; the words are those of the
recipe. A card belongs to the weights of one checkpoint, which it names by their SHA-256.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.checkpoints import checkpoint
from engine.comparison.methods import RECONSTRUCTION
from engine.errors import BadUsage, Mismatch
from engine.recipe.recipe_file import find_recipe
from engine.recipe.serialization import CODE
from engine.recipe.summary import plain_text
from engine.report.files import closeup
from engine.runs.run import Run
from engine.scoring.tissue_classes import TISSUE_HU
from volumes.storage import json_files
from volumes.storage.digest import sha256

Card = dict[str, Any]  # as in card.json
Report = Mapping[str, Any]  # the content of report.json

# What content of another form raises.
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, ZeroDivisionError)

_THIN_MM = 2.5  # distance of slices
_MOST_BYTES = 64 * 2**20  # a report has the spectra of every case
_MOST_NAMED = 8  # cases with a column of their own
_CHARACTERISTICS = {  # name of the quantity: title, digits
    "noise_hu": ("noise (HU)", 1),
    "noise_ratio": ("noise, ratio", 3),
    "nps_mean_ratio": ("NPS mean f, ratio", 3),
    "ttf50_per_mm": ("TTF 50 %, ratio", 3),
    "hu_bias": ("largest HU bias", 1),
    "psnr_db": ("PSNR (dB)", 2),
    "auc": ("mean AUC", 3),
}


def make_card(run: Run, which: str, reports: Sequence[Path], pictured: Path | None = None) -> Card:
    """The card of a checkpoint, as plain data.

    Each of its tables has a kind, a title, columns, the digits of each column, and rows of words
    and numbers, None for what could not be measured.

    Args:
        run: the network. No code of it is executed.
        which: of its checkpoints: "best", "last" or a step.
        reports: folders that `engine evaluate` or `engine characterize` wrote.
        pictured: from `picture`; None if the card has no picture.

    Raises:
        Mismatch: if one of them is no report, or measures other weights.
    """
    path, arrays = run.opened(which)
    fields, cases = run.fields(), run.record().cases
    card: Card = {
        "name": run.folder.resolve().name,
        "sha256": checkpoint.fingerprint_of(arrays),
        "step": checkpoint.step_of(path),
        "parameters": sum(array.size for array in checkpoint.weights(arrays).values()),
        "network": plain_text(fields["network"]),
        "noise": plain_text(fields["noise"]) if CODE in fields else str(run.recipe().noise),
        "cases": {side: sorted(cases.get(side, {})) for side in ("training", "validation", "test")},
        **_words(run),
        "tables": [],
        "remarks": [],
    }
    for folder in reports:
        report = _read(folder)
        try:
            _refuse_others(folder, report, card)
            name = card["name"]
            if "quantities" in report:
                card["tables"].append(_characteristics(report, name))
                told = [text for text in report["remarks"] if text.startswith(f"{name} at ")]
                card["remarks"] += told
            else:
                card["tables"] += _evaluation(report, name)
        except MALFORMED as error:
            cause = f"has a report of another version of the engine ({error!r})"
            raise Mismatch(folder, cause, "Measure again") from error
    card["picture_sha256"] = None if pictured is None else sha256(pictured)
    return card


def picture(reports: Sequence[Path]) -> Path | None:
    """The picture for a card: the enlarged slice of the first report that has one.

    Of several levels of noise it shows the middle one.

    Raises:
        Mismatch: if one of them is no report.
    """
    for folder in reports:
        levels = list(_read(folder).get("levels", ()))
        for level in levels[(len(levels) - 1) // 2 :][:1]:
            if (path := folder / f"{closeup(level)}.png").is_file():
                return path
    return None


def _read(folder: Path) -> Report:
    """The content of a report.

    Raises:
        Mismatch: if there is none, or it is damaged.
    """
    remedy = "Name a folder with one"
    try:
        report = json_files.read_json(folder / "report.json", most_bytes=_MOST_BYTES)
    except OSError as error:
        raise Mismatch(folder, f"has no report ({error.strerror or error})", remedy) from error
    except ValueError as error:
        raise Mismatch(folder, f"has a damaged report ({error})", remedy) from error
    if not isinstance(report, Mapping):
        raise Mismatch(folder, "has a damaged report", remedy)
    return report


def _words(run: Run) -> dict[str, Any]:
    """What the recipe says of itself: its first line, its licence, and where it fails.

    They are paragraphs of its docstring. A run may have an older copy, which lacks them.
    """
    own, shipped = _docstring(run.folder / "recipe.py"), ""
    with suppress(BadUsage):  # the recipe does not ship
        shipped = _docstring(find_recipe(run.folder.resolve().name))
    parts = [part for text in (own, shipped) for part in text.split("\n\n")]
    first = {title: [part for part in parts if part.startswith(f"{title}:")][:1]
             for title in ("Licence", "Where it fails")}  # fmt: skip
    return {
        "about": own.split("\n")[0],
        "licence": " ".join("".join(first["Licence"]).split()[1:]),
        "fails": [" ".join(line.split()) for part in first["Where it fails"]
                  for line in re.split(r"\n- ", part)[1:]],
    }  # fmt: skip


def _docstring(path: Path) -> str:
    """The docstring of a Python file, which is not run; empty if it has none."""
    try:
        return ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (OSError, SyntaxError, ValueError):
        return ""


def _refuse_others(folder: Path, report: Report, card: Card) -> None:
    """Refuses a report that does not measure these weights.

    Raises:
        Mismatch: if so.
    """
    hashes = {label: str(models[0]["sha256"]) for label, models in report["networks"].items()}
    if hashes.get(card["name"]) != card["sha256"]:
        found = ", ".join(f"{label} {sha256[:12]}" for label, sha256 in hashes.items())
        wanted = f"{card['name']} {card['sha256'][:12]} of step {card['step']:,}"
        cause = f"measures other weights ({found or 'no network'}) than {wanted}"
        raise Mismatch(folder, cause, "Measure again, or name the --checkpoint that it measures")


def _kept(report: Report, method: str, name: str) -> bool:
    """Whether a card tells the scores of a method: those of its network, and classical ones."""
    return applies(method, name) or method not in report["networks"]


def applies(method: str, name: str) -> bool:
    """Whether a method of a report is a network, or applies it with options, such as `+poses`."""
    return method == name or method.startswith(f"{name}+")


def _evaluation(report: Report, name: str) -> Iterator[dict[str, Any]]:
    """Tables of PSNR at added noise, of RMSE at recorded noise, and of HU bias."""
    cases = {case: float(mm[0]) for case, mm in report["spacing_mm"].items()}
    rows = [row for row in report["rows"] if _kept(report, row["method"], name)]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    levels = [level for level in report["levels"] if level not in report["recorded"]]

    def mean(method: str, level: str, score: str, of: Sequence[str] = tuple(cases)) -> float | None:
        at = [row for row in rows if (row["method"], row["level"]) == (method, level)]
        return _mean([row["scores"].get(score) for row in at if row["case"] in of])

    scored = _scored(report)
    if levels:
        table = [[method, *(mean(method, level, "psnr_db") for level in levels)]
                 for method in methods]  # fmt: skip
        yield _table("psnr", f"PSNR in dB. {scored}", ["method", *levels], 2, table)
    thin = [case for case, mm in cases.items() if mm <= _THIN_MM]
    sides = {f"up to {_THIN_MM:g} mm": thin, f"above {_THIN_MM:g} mm": [*(cases.keys() - thin)]}
    if levels and all(sides.values()):
        table = [[method, side, *(mean(method, level, "psnr_db", of) for level in levels)]
                 for side, of in sides.items() for method in methods]  # fmt: skip
        title = f"PSNR in dB by the distance of slices. {scored}"
        yield _table("psnr by distance", title, ["method", "slices", *levels], 2, table)
    for level in report["recorded"]:
        named = list(cases) if len(cases) <= _MOST_NAMED else []
        groups = [*([case] for case in named), list(cases)]
        table = [[method, *(mean(method, level, "rmse_soft_tissue_hu", of) for of in groups)]
                 for method in methods]  # fmt: skip
        title = f"RMSE of soft tissue in HU at recorded noise ({level}). {scored}"
        yield _table("rmse", title, ["method", *named, "mean"], 1, table)
    table = [[method, level, *(mean(method, level, f"shift_{tissue}_hu") for tissue in TISSUE_HU)]
             for level in report["levels"] for method in methods
             if method in ("noisy", name)]  # fmt: skip
    columns = ["method", "noise", *(tissue.replace("_", " ") for tissue in TISSUE_HU)]
    title = f"HU bias: mean of estimate - clean by tissue. {scored}"
    yield _table("hu bias", title, columns, 1, table)


def _scored(report: Report) -> str:
    """What was scored, in a sentence."""
    slices = "all" if report["slices"] == "all" else f"the middle {report['slices']}"
    split = "" if report["split"] == "all" else f"{report['split']} "
    count = len(report["cases"])
    noun = "case" if count == 1 else "cases"
    cases = f"{count} {split}{noun} ({', '.join(report['cases'])})"
    tuned = {
        "validation": "tuned on validation cases",
        "scored": "tuned on these cases, with the clean image known",
        "none": "with their usual parameters",
    }[report.get("tuning", "validation") if report["tuned_on"] else "none"]
    if report["protocol"] == "reference":
        return f"The first slice of a central crop, of {cases}; classical methods {tuned}."
    return f"Slices: {slices} of {cases}; classical methods {tuned}."


def _characteristics(report: Report, name: str) -> dict[str, Any]:
    """The table of noise, resolution, HU and detectability by method and dose."""
    values: dict[tuple[str, float], dict[str, dict[str, float]]] = {}
    for one in report["quantities"]:
        if _kept(report, one["method"], name) and one["value"] is not None:
            at = values.setdefault((one["method"], one["photons"]), {})
            at.setdefault(one["name"], {})[one["of"]] = float(one["value"])
    rods = {one["of"] for one in report["quantities"] if one["name"] == "d_prime_npw"}
    rows = []
    for (method, photons), found in values.items():
        before = values[RECONSTRUCTION, photons].get("ttf50_per_mm", {})
        own = found.get("ttf50_per_mm", {})
        row = {of: found.get(of, {}).get("") for of in _CHARACTERISTICS} | {
            "ttf50_per_mm": _mean(
                [own[insert] / before[insert] for insert in before if insert in own]
            ),
            "hu_bias": max(found["hu_bias"].values(), key=abs),
            "auc": _mean([found["auc"].get(rod) for rod in sorted(rods)]),
        }
        rows.append([method, f"{photons:,.0f}", *row.values()])
    titles, digits = zip(*_CHARACTERISTICS.values(), strict=True)
    title = (
        f"Noise, resolution, HU and detectability. Phantom {report['phantom']}, "
        f"{report['realisations']} realisations, pixels of {report['pixel_mm']:g} mm. Ratios are "
        "to the reconstruction at the same dose, that of TTF is a mean over inserts."
    )
    found_table = _table("characteristics", title, ["method", "photons", *titles], 0, rows)
    return {**found_table, "digits": [0, 0, *digits]}


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are defined; None without any."""
    defined = [value for value in values if value is not None]
    return round(sum(defined) / len(defined), 4) if defined else None


def _table(
    kind: str, title: str, columns: list[str], digits: int, rows: list[list[Any]]
) -> dict[str, Any]:
    several = [digits] * len(columns)
    return {"kind": kind, "title": title, "columns": columns, "digits": several, "rows": rows}
