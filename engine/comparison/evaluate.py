"""`engine evaluate`: selects cases, compares methods and writes the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import runtime
from engine.comparison.eligibility import refuse_without_dose
from engine.comparison.evaluate_request import TUNING, EvaluateRequest
from engine.comparison.methods import resolve_methods
from engine.comparison.noise_levels import Level, added_levels, scanned_levels
from engine.errors import BadUsage
from engine.output_paths import refuse_existing, refuse_file_name
from engine.report.results import Picture, Row
from engine.runs.trained_model import Model
from engine.terminal import Terminal
from volumes import Window
from volumes.storage.atomic import make_folder

if TYPE_CHECKING:
    from engine.comparison.compare import Comparison


@dataclass(frozen=True)
class Evaluated:
    """What a comparison gives.

    Attributes:
        title: of the table of scores.
        window: of every score.
        about: description of the comparison.
        rows: the scores of each method, case and level.
        pictures: the middle slice of the first case at each level.
        written: the files of the report.
    """

    title: str
    window: Window
    about: dict[str, Any]
    rows: Sequence[Row]
    pictures: Sequence[Picture]
    written: Sequence[Path]


def evaluate(request: EvaluateRequest, terminal: Terminal) -> Evaluated:
    """Compares methods, and writes the report if a folder is named.

    Raises:
        Refusal: of the kind that the exit code of the contract names.
    """
    levels = _check(request)
    # Both import TensorFlow, after the arguments were checked.
    from engine.comparison.compare import compare
    from engine.comparison.preparation import prepare
    from engine.report.files import write

    methods = resolve_methods(request.methods, request.checkpoint, run_code=request.run_code)
    refuse_without_dose(methods, levels)
    comparison = prepare(request, methods, levels, terminal)
    if request.output is not None:
        make_folder(request.output)  # hours may pass before the report is written
    runtime.start_inference(request.devices)
    rows, settings, pictures = compare(comparison, terminal.say)
    about = _about(request, comparison, settings)
    output = request.output
    written = [] if output is None else write(output, about, rows, pictures)
    title = _title(request, comparison.window)
    return Evaluated(title, comparison.window, about, rows, pictures, written)


def _check(request: EvaluateRequest) -> tuple[Level, ...]:
    """The levels that are asked for; refuses what no file has to be read for.

    Raises:
        BadUsage: if an option has a value that it cannot have.
        CannotWrite: if the report cannot be written where it is wanted.
    """
    levels = _levels(request)
    for option, value, known in (
        ("--split", request.split, ("test", "validation", "all")),
        ("tuning", request.tuning, TUNING),
        ("--protocol", request.protocol, ("volumes", "reference")),
    ):
        if value not in known:
            raise BadUsage(option, f"takes no {value!r}", f"Use one of {', '.join(known)}")
    if request.slices is not None and request.slices < 1:
        raise BadUsage("--slices", f"must be at least 1, not {request.slices}", "Leave it out")
    if request.protocol == "reference" and request.slices:
        cause = "has no meaning with a protocol that scores one slice"
        raise BadUsage("--slices", cause, "Leave it out, or use --protocol volumes")
    runtime.check(request.devices, "auto", "auto")
    if request.output is not None:
        refuse_file_name(request.output, "-o")
        refuse_existing([request.output / "report.json"], overwrite=request.overwrite)
    return levels


def show(evaluated: Evaluated, terminal: Terminal) -> None:
    """Prints the table of scores, what must be said of them, and the files of the report."""
    from engine.report.summary import summary
    from engine.report.tables import table

    entries = summary(evaluated.rows, evaluated.about["oracles"])
    terminal.table(evaluated.title, *table(entries, evaluated.window.unit_name))
    for line in (*explained(evaluated), *map(str, evaluated.written)):
        terminal.result(line)


def explained(evaluated: Evaluated) -> list[str]:
    """The lines below the table: what must be said of the scores, and each method's settings."""
    from engine.report.summary import remarks, summary

    about = evaluated.about
    return [
        *remarks(summary(evaluated.rows, about["oracles"])),
        *(f"{level}: {text}" for level, text in about["levels"].items()),
        *(
            f"{level}: {name}: {setting}"
            for level, chosen in about["settings"].items()
            for name, setting in chosen.items()
        ),
    ]


def _levels(request: EvaluateRequest) -> tuple[Level, ...]:
    """The noise levels of --noise, then those of --as.

    Raises:
        BadUsage: if a recorded and a scanned level have the same name.
    """
    if request.kinds is None:
        return added_levels("gaussian:0.1" if request.noise is None else request.noise)
    added = added_levels(request.noise) if request.noise is not None else ()
    asked = (*added, *scanned_levels(request.kinds))
    labels = [level.label for level in asked]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        cause = f"names {twice}, and so does --noise"
        raise BadUsage("--as", cause, "Write two reports, one after the other")
    return asked


def _title(request: EvaluateRequest, window: Window) -> str:
    what = "every voxel of whole volumes, padding as air"
    if request.protocol == "reference":
        what = "slice 0 of a central crop of 32 x 256 x 256"
    elif request.slices:
        many = f"the {request.slices} middle slices"
        middle = "the middle slice" if request.slices == 1 else many
        what = f"every voxel of {middle}, padding as air"
    ends = f"[{window.low_hu:g}, {window.high_hu:g}] {window.unit_name}"
    return (
        f"{request.split}, {what}; window {ends} is the data range; means over cases, ± their "
        "standard deviation"
    )


def _about(
    request: EvaluateRequest, comparison: Comparison, settings: dict[str, dict[str, str]]
) -> dict[str, Any]:
    return {
        "protocol": request.protocol,
        "split": request.split,
        "cases": {volume.case: volume.sha256 for volume in comparison.cases},
        "spacing_mm": {volume.case: list(volume.spacing_mm) for volume in comparison.cases},
        "tuned_on": [volume.case for volume in comparison.tuning],
        "tuning": request.tuning,
        "slices": request.slices or "all",
        "data_range": asdict(comparison.window),
        "ssim": "Gaussian 11 x 11, sigma 1.5, within slices, valid region",
        "levels": {
            level.label: level.noise.describe(comparison.window) for level in comparison.levels
        },
        "recorded": [level.label for level in comparison.levels if level.noise.file is not None],
        "noise_seed": comparison.noise_seed,
        "prior": asdict(comparison.prior) | {"of": repr(comparison.prior.of)},
        "settings": settings,
        "oracles": [method.label for method in comparison.methods if method.is_oracle],
        "networks": {
            method.label: [_network(model) for model in method.behind()]
            for method in comparison.methods
            if method.behind()
        },
    }


def _network(model: Model) -> dict[str, Any]:
    """Run, step and hash of the weights: a step alone does not identify them."""
    return {"run": model.run.folder.resolve().name, "step": model.step, "sha256": model.sha256}
