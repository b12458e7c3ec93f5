"""Selection: which cases a comparison may use, and the command that runs it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine import runtime
from engine.comparison.classical import METHODS
from engine.comparison.eligibility import (
    refuse_others,
    refuse_seen,
    refuse_seen_in_tuning,
    refuse_untold,
    warn,
)
from engine.comparison.methods import entrants
from engine.comparison.noise_levels import Level, levels, scanned
from engine.errors import BadInput, BadUsage, Mismatch
from engine.output_paths import refuse_existing, refuse_other_file
from engine.runs.trained_model import Model
from engine.terminal import Terminal
from volumes import Clean, NeighbourMean, Split, Window
from volumes.dataset import Case, find_cases
from volumes.dataset.pairs import FLOAT_SCALE, open_pairs
from volumes.dataset.store import Store, default_root
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.sampling.scanner_noise import refuse_unscannable
from volumes.storage.atomic import make_folder
from volumes.volume import Volume


@dataclass(frozen=True)
class EvaluateRequest:
    """What `engine evaluate` is asked for; the Python API takes the same.

    Attributes:
        methods: run folders and names of methods, each with @PRIOR where another is wanted.
        data: folder of the cases, or a file of pairs.
        output: folder of the report.
        split: "test", "validation" or "all".
        noise: levels of added or recorded noise, such as "gaussian:0.02,0.1".
        kinds: levels of a simulated scanner, such as "low_dose:1e5".
        protocol: "volumes", or "reference": the first slice of a central crop.
        slices: scored slices of each case, about its middle; None takes all.
        checkpoint: of each run: best, last or a step.
        tuning: whether classical methods choose their parameters on the validation cases.
        allow_seen: whether cases are scored that a network was trained on.
        devices: on what it is computed.
        overwrite: whether an existing report is replaced.
        reading: what is accepted of scans.
    """

    methods: tuple[str, ...]
    data: Path
    output: Path
    split: str = "test"
    noise: str | None = None
    kinds: str | None = None
    protocol: str = "volumes"
    slices: int | None = None
    checkpoint: str = "best"
    tuning: bool = True
    allow_seen: bool = False
    devices: str = "auto"
    overwrite: bool = False
    reading: ReadOptions = STRICT


def evaluate(request: EvaluateRequest, terminal: Terminal) -> None:
    """Compares methods and writes the report.

    Raises:
        Refusal: of the kind that the exit code of the contract names.
    """
    asked, output = _levels(request), request.output
    for option, value, known in (
        ("--split", request.split, ("test", "validation", "all")),
        ("--protocol", request.protocol, ("volumes", "reference")),
    ):
        if value not in known:
            raise BadUsage(option, f"takes no {value!r}", f"Use one of {', '.join(known)}")
    if request.protocol == "reference" and request.slices:
        cause = "has no meaning where the protocol scores one slice"
        raise BadUsage("--slices", cause, "Leave it out, or use --protocol volumes")
    runtime.check(request.devices, "auto", "auto")
    refuse_other_file(output)
    refuse_existing([output / "report.json"], overwrite=request.overwrite)
    # What follows imports TensorFlow where it must, not before the words were understood.
    from engine.comparison.compare import Contest, compare
    from engine.report.files import write
    from engine.report.summary import remarks, summary
    from engine.report.tables import table

    entering = entrants(request.methods, request.checkpoint)
    refuse_untold(entering, asked)
    models = {e.label: e.model for e in entering if e.model}
    cases = find_cases(request.data, trust=request.reading)
    scored = _cases(request, models, cases, request.split)
    tuning: Sequence[Case] = ()
    if request.tuning and any(METHODS[e.method]().candidates()[1:] for e in entering if e.method):
        tuning = _cases(request, models, cases, "validation")
    scans = any(level.noise.scanned for level in asked)
    if scans:
        for case in (*scored, *tuning):
            refuse_unscannable(case)
    store = Store(default_root(), terminal.warn)
    volumes = _volumes(store, [*scored, *tuning], terminal, scanned=scans)
    recorded = _recorded(store, request, asked, set(volumes), terminal)
    held = [volumes[case.name] for case in scored]
    refuse_others(request.data, request.split, models, held)
    if not request.allow_seen:
        refuse_seen(request.data, entering, held)
        refuse_seen_in_tuning(request.data, entering, [volumes[case.name] for case in tuning])
    both = [case.name for case in tuning if case in scored]
    if both:
        terminal.warn(
            f"{request.data}: {', '.join(both)} choose the parameters of classical methods and are "
            "scored, too: these methods are favoured"
        )
    warn(entering, terminal)
    make_folder(output)  # hours may pass before the report is written
    runtime.start(request.devices)
    contest = Contest(
        entrants=entering,
        cases=held,
        tuning=[volumes[case.name] for case in tuning],
        levels=asked,
        window=next((m.recipe.window for e in entering for m in e.behind()), None)
        or _window(scored),
        prior=_prior(models),
        protocol=request.protocol,
        slices=request.slices,
        recorded=recorded,
    )
    rows, settings, pictures = compare(contest, terminal.say)
    about = _about(request, contest, settings)
    entries = summary(rows, about["oracles"])
    terminal.table(_title(request, contest.window), *table(entries, contest.window.unit_name))
    for remark in remarks(entries):
        terminal.result(remark)
    for level, chosen in settings.items():
        for name, setting in chosen.items():
            terminal.result(f"{level}: {name}: {setting}")
    for path in write(output, about, rows, pictures):
        terminal.result(str(path))


def _levels(request: EvaluateRequest) -> tuple[Level, ...]:
    """Those of --noise, then those of --as.

    Raises:
        BadUsage: where a recorded and a scanned level have one name.
    """
    if request.kinds is None:
        return levels("gaussian:0.1" if request.noise is None else request.noise)
    asked = (*(levels(request.noise) if request.noise is not None else ()), *scanned(request.kinds))
    labels = [level.label for level in asked]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        cause = f"names {twice}, which --noise names, too"
        raise BadUsage("--as", cause, "Ask for them one after the other, into two reports")
    return asked


def _cases(
    request: EvaluateRequest, models: dict[str, Model], cases: list[Case], side: str
) -> Sequence[Case]:
    """The cases of a side, as the runs declare it; without a run that does, by the default split.

    Raises:
        Mismatch: where runs declare different cases, or none.
    """
    if side == "all":
        return cases
    declared = {
        name: sorted(model.record.cases.get(side, {}))
        for name, model in models.items()
        if model.record.cases
    }
    if not declared:
        try:
            return Split().assign(request.data, cases)[side]
        except BadInput as error:
            way = "--no-tuning" if request.split == "all" else "--split all --no-tuning"
            raise BadInput(error.path, error.cause, f"Add cases, or use {way}") from error
    first, names = next(iter(declared.items()))
    for other, others in declared.items():
        if others != names:
            cause = f"{first} and {other} were split differently: {side} differs"
            raise Mismatch(request.data, cause, "Compare runs of one split, or use --split all")
    found = [case for case in cases if case.name in names]
    if not names or len(found) < len(names):
        missing = sorted(set(names) - {case.name for case in cases}) or ["any"]
        raise Mismatch(
            request.data, f"does not hold {missing[0]} of {side}", "Name the data of the runs"
        )
    return found


def _window(cases: Sequence[Case]) -> Window:
    """Where no run gives one: that of the recipes, for scans, photographs or pairs of floats."""
    if all(case.path.suffix.lower() == ".png" for case in cases):
        return Window(low_hu=0, high_hu=255, clip=False)
    if all(case.of_a_set and not open_pairs(case.path).whole for case in cases):
        return Window(low_hu=0, high_hu=FLOAT_SCALE, clip=False)
    return Window()


def _prior(models: dict[str, Model]) -> NeighbourMean:
    """Of classical methods: what the networks see, but no clean image that their name hides."""
    priors = {model.recipe.prior for model in models.values() if model.recipe.prior}
    seen = [prior for prior in priors if not isinstance(prior.of, Clean)]
    # Where networks see different ones, none of them is the one that is meant.
    return seen[0] if len(seen) == 1 else NeighbourMean()


def _recorded(
    store: Store,
    request: EvaluateRequest,
    asked: Sequence[Level],
    names: Collection[str],
    terminal: Terminal,
) -> dict[str, dict[str, Volume]]:
    """The volumes of each recorded level, with their recordings.

    Raises:
        BadInput: where a case lacks one.
    """
    return {
        level.label: _volumes(
            store,
            [
                case
                for case in find_cases(request.data, level.noise.file, trust=request.reading)
                if case.name in names
            ],
            terminal,
        )
        for level in asked
        if level.noise.file is not None
    }


def _volumes(
    store: Store, cases: Sequence[Case], terminal: Terminal, *, scanned: bool = False
) -> dict[str, Volume]:
    volumes: dict[str, Volume] = {}
    for case in dict.fromkeys(cases):
        terminal.doubt(case.doubts())
        volumes[case.name] = volume = store.volume(case, scanned=scanned)
        terminal.doubt(volume.odd)
    return volumes


def _title(request: EvaluateRequest, window: Window) -> str:
    what = "whole volumes"
    if request.protocol == "reference":
        what = "slice 0 of a central crop of 32 x 256 x 256"
    elif request.slices:
        what = f"{request.slices} slices about the middle"
    ends = f"[{window.low_hu:g}, {window.high_hu:g}] {window.unit_name}"
    return (
        f"{request.split}, {what}; window {ends} is the data range; means over cases, ± their "
        "standard deviation"
    )


def _about(
    request: EvaluateRequest, contest: Any, settings: dict[str, dict[str, str]]
) -> dict[str, Any]:
    return {
        "protocol": request.protocol,
        "split": request.split,
        "cases": {volume.case: volume.sha256 for volume in contest.cases},
        "tuned_on": [volume.case for volume in contest.tuning],
        "slices": request.slices or "all",
        "data_range": asdict(contest.window),
        "ssim": "Gaussian 11 x 11, sigma 1.5, within slices, valid region",
        "levels": {level.label: level.noise.describe(contest.window) for level in contest.levels},
        "noise_seed": contest.noise_seed,
        "prior": asdict(contest.prior) | {"of": repr(contest.prior.of)},
        "settings": settings,
        "oracles": [entrant.label for entrant in contest.entrants if entrant.is_oracle],
        "networks": {
            entrant.label: [_network(model) for model in entrant.behind()]
            for entrant in contest.entrants
            if entrant.behind()
        },
    }


def _network(model: Model) -> dict[str, Any]:
    """Which weights: a step alone tells nobody."""
    return {"run": model.run.folder.resolve().name, "step": model.step, "sha256": model.sha256}
