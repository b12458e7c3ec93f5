"""Fit: from a recipe and a folder of scans to a trained run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from engine import runtime
from engine.checkpoints import checkpoint
from engine.errors import BadUsage, Interrupted, Mismatch
from engine.recipe import summary
from engine.recipe.network_prior import resolved
from engine.recipe.overrides import override
from engine.recipe.recipe import Recipe
from engine.recipe.recipe_file import DEFAULT, find_recipe, foreign, load_recipe
from engine.runs import compatibility, initial_weights, own_settings, prior_network
from engine.runs.compatibility import Changes
from engine.runs.initial_weights import InitialWeights
from engine.runs.prior_network import PriorNetwork
from engine.runs.record import RunRecord
from engine.runs.run import Run
from engine.runtime import code_sha256
from engine.scoring.case_images import SCORES_VERSION
from engine.terminal import Terminal
from engine.training import requested_recipe
from engine.training.cases import CaseList, list_cases, read_cases
from engine.training.requested_recipe import RequestedRecipe
from engine.training.signals import Stop, Stopped
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.sampling.examples import Examples
from volumes.volume import Volume

_DECIDES_BITS = (
    "engine", "code_sha256", "tensorflow", "keras", "devices", "replicas", "onednn", "threads",
    "precision", "xla",
)  # fmt: skip


@dataclass(frozen=True)
class FitRequest:
    """The options of `engine fit`. The Python API takes the same ones.

    Attributes:
        recipe: path of a recipe file, the name of one that ships, or the folder of a run to resume.
            None is the recipe of the run in the run folder; without a run, the default recipe.
        overrides: fields of the recipe to replace, such as "batch=4".
        data: folder of the cases, or a file of pairs.
        run: run folder. None is runs/<name of the recipe>.
        start: run whose weights a new run starts from.
        start_checkpoint: of that run: best, last or a step. None is best.
        fresh: start anew. An existing run is moved aside.
        accept_changes: continue with another recipe or other cases.
        skip_bad: leave out scans that cannot be used.
        dry_run: only print what would be done and what it would cost.
        time: in a dry run, time a few steps.
        json: in a dry run, print JSON.
        devices, precision, xla: how it is computed, not what.
        reading: options for reading scans.
        preset: overrides that belong to the recipe, as those of the demo do. A run that was begun
            with others on top of them goes on with those.

    Example:
        >>> FitRequest("unet2d", ("batch=8",), data=Path("kits19")).run_folder
        PosixPath('runs/unet2d')
    """

    recipe: str | None
    overrides: tuple[str, ...] = ()
    data: Path = Path("data")
    run: Path | None = None
    start: Path | None = None
    start_checkpoint: str | None = None
    fresh: bool = False
    accept_changes: bool = False
    skip_bad: bool = False
    dry_run: bool = False
    time: bool = False
    json: bool = False
    devices: str = "auto"
    precision: str = "auto"
    xla: str = "auto"
    reading: ReadOptions = STRICT
    preset: tuple[str, ...] = ()

    @property
    def run_folder(self) -> Path:
        """The run folder."""
        if self.run is not None:
            return self.run
        file = _recipe_file(self.recipe)
        return Path(str(self.recipe)) if file is None else Path("runs") / file.stem

    @property
    def source(self) -> Path | None:
        """The recipe file; None if the recipe is that of the run in the run folder.

        Raises:
            BadUsage: if there is no such recipe, or the named run is not the one to train.
        """
        if self.recipe is None:
            own = _is_run(self.run_folder) and not self.fresh
            return None if own else find_recipe(DEFAULT)
        file = _recipe_file(self.recipe)
        if file is None and self.fresh:
            cause = "is a run, and --fresh starts from a recipe"
            raise BadUsage(self.recipe, cause, "Name the recipe, and this folder with --run")
        if file is None and self.run_folder.resolve() != Path(self.recipe).resolve():
            cause = f"is a run, and --run is {self.run}"
            raise BadUsage(self.recipe, cause, "Name a recipe, or leave out --run")
        return file


def _recipe_file(name: str | None) -> Path | None:
    """The file of a recipe; None if the name is that of a run folder."""
    try:
        return find_recipe(name or DEFAULT)
    except BadUsage:
        if name and _is_run(Path(name)):
            return None
        raise


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.json").is_file()


class Prepared(NamedTuple):
    """A resolved request. No scan has been read beyond its header."""

    recipe: Recipe
    requested: RequestedRecipe
    run: Run
    start: InitialWeights | None
    prior: PriorNetwork
    cases: CaseList


def fit(request: FitRequest, terminal: Terminal, stop: Stop) -> Run | None:
    """Trains a recipe in a run folder, or resumes the run that is there.

    Bad input is refused before TensorFlow is imported. Bad headers are refused before anything is
    written or moved aside.

    Args:
        request: the options.
        terminal: shows messages and progress.
        stop: checked between scans and between steps.

    Returns:
        The run; None for a dry run.

    Raises:
        Refusal: an error for the user. Its class sets the exit code.
    """
    folder = request.run_folder
    try:
        with stop.at_once():
            return _fit(request, terminal, stop)
    except Stopped as stopped:  # before its first step: nothing had to be saved
        cause = f"stopped before its first step by {stopped}"
        raise Interrupted(folder, cause, "Run the same command to resume") from None


def _fit(request: FitRequest, terminal: Terminal, stop: Stop) -> Run | None:
    prepared = prepare(request, terminal)
    if request.dry_run:
        from engine.training.dry_run import dry_run

        _say_resumed(prepared, terminal)
        dry_run(prepared, request, terminal)
        return None
    run = prepared.run
    if request.fresh and (aside := run.set_aside()):
        terminal.say(f"The existing run is now {aside}")
    with run.locked(terminal.warn):
        _train(prepared, request, terminal, stop)
    return run


def prepare(request: FitRequest, terminal: Terminal) -> Prepared:
    """Resolves a request: recipe, run folder, initial weights, prior and cases.

    Raises:
        Refusal: an error for the user. Its class sets the exit code.
    """
    if request.start_checkpoint is not None and request.start is None:
        raise BadUsage("--from-checkpoint", "is given without --from", "Name the run with --from")
    if not request.dry_run and (request.time or request.json):
        option = "--time" if request.time else "--json"
        raise BadUsage(option, "belongs to --dry-run", "Add --dry-run, or leave it out")
    run = Run(request.run_folder)
    record = RunRecord() if request.fresh else run.record()
    requested = _requested(request, run, record, terminal)
    recipe = requested.recipe if request.fresh else prior_network.as_recorded(requested.recipe, run)
    start = None
    if request.start is not None:
        which = request.start_checkpoint or "best"
        start = initial_weights.find_initial_weights(Run(request.start), which, recipe, run)
    run.refuse_locked()
    # With --fresh, the existing run has not been moved aside yet: its copy of the network counts.
    prior = prior_network.resolve(recipe.prior, recipe.window, run)
    runtime.check(request.devices, request.precision, request.xla)
    found = list_cases(recipe, request.data, terminal, request.reading, record.tops)
    if scale := found.scale():
        terminal.say(f"{request.data}: {scale.told}")
    if request.dry_run or request.fresh:
        found.refuse(terminal, skip_bad=request.skip_bad)
    for case in (case for cases in found.good().values() for case in cases):
        terminal.warn_once(case.oddities())
    return Prepared(recipe, requested, run, start, prior, found)


def _requested(
    request: FitRequest, run: Run, record: RunRecord, terminal: Terminal
) -> RequestedRecipe:
    """The requested recipe. Only a recipe file that the command names is run."""
    source = request.source
    if source is None:
        return requested_recipe.of_run(run, record, request.overrides)
    if foreign(source):
        terminal.say(f"Running the Python code of {source}")
    file = override(load_recipe(source), request.preset)
    resumed = None if request.fresh else run
    return requested_recipe.of_file(source, file, request.overrides, resumed, record)


def _say_resumed(prepared: Prepared, terminal: Terminal) -> None:
    """Says which settings a run keeps that the command does not name."""
    if kept := prepared.requested.kept:
        terminal.say(f"{prepared.run.folder}: goes on with its own {', '.join(kept)}")


class Resumed(NamedTuple):
    """A run and its request, compared. Nothing has been written, and no voxel read."""

    record: RunRecord
    start: InitialWeights | None
    prior: PriorNetwork
    changes: list[Changes]


def compare_run(
    prepared: Prepared, request: FitRequest, warn: Callable[[str], None], *, rename: bool = True
) -> Resumed:
    """Compares a run with the request.

    Args:
        prepared: the request, resolved.
        request: the options.
        warn: called with a message about each damaged checkpoint.
        rename: whether damaged checkpoints are renamed.

    Raises:
        Mismatch: if the run is damaged, or cannot go on as requested.
    """
    recipe, run = prepared.recipe, prepared.run
    record = run.resumed_record()
    done = run.newest(warn, record, rename=rename)
    if done is not None and done.step > recipe.steps:
        cause = f"has {done.step:,} steps already, more than the {recipe.steps:,} requested"
        raise Mismatch(run.folder, cause, "Request more --steps, or start anew with --fresh")
    changes = run.changed_recipe(recipe, accepted=request.accept_changes)
    start = initial_weights.agreed(run, record, prepared.start)
    if start is not None and done is None:
        start.weights()  # raises if they are missing or damaged
    # With --fresh, that copy was moved aside with the run: resolve again.
    prior = prepared.prior
    if prior.model is None:
        prior = prior_network.resolve(recipe.prior, recipe.window, run)
    prior.refuse_lost(run)
    return Resumed(record, start, prior, changes)


def compare_cases(
    prepared: Prepared, request: FitRequest, resumed: Resumed, terminal: Terminal,
    volumes: dict[str, list[Volume]], found: CaseList,
) -> tuple[dict[str, Any], list[Changes]]:  # fmt: skip
    """Compares the cases with those of the run, and with those that other networks learned from.

    Args:
        prepared: the request, resolved.
        request: the options.
        resumed: from `compare_run`.
        terminal: for warnings.
        volumes: by side of the split. Only their names and hashes are used.
        found: the cases.

    Returns:
        The content of run.json about the cases, and all changes.

    Raises:
        Mismatch: if a network has learned from cases that are scored, or the run has other cases.
    """
    recipe, run, start = prepared.recipe, prepared.run, resumed.start
    about = _cases(volumes, found)
    if start is not None:
        _refuse_seen(start, volumes, terminal)
        about["started_from"] = start.about()
    resumed.prior.refuse_seen([*volumes["validation"], *volumes["test"]])
    changed = run.changed_cases(resumed.record, about, recipe, accepted=request.accept_changes)
    return about, [*resumed.changes, *changed]


def refuse_uneven(recipe: Recipe, started: runtime.Runtime) -> None:
    """Refuses a batch that cannot be shared by the devices.

    Raises:
        BadUsage: naming the number of devices.
    """
    if recipe.batch % started.replicas:
        cause = f"{recipe.batch} examples cannot be shared by {started.replicas} devices"
        raise BadUsage("batch", cause, f"Use a multiple of {started.replicas}")


def _train(prepared: Prepared, request: FitRequest, terminal: Terminal, stop: Stop) -> None:
    """Trains the run. The caller holds its lock."""
    recipe, run = prepared.recipe, prepared.run
    run.sweep()
    resumed = compare_run(prepared, request, terminal.warn)
    _say_resumed(prepared, terminal)
    volumes, found = read_cases(
        prepared.cases, recipe, terminal, stop.check, skip_bad=request.skip_bad
    )
    about, changes = compare_cases(prepared, request, resumed, terminal, volumes, found)
    # TensorFlow takes seconds to import. Errors that do not need it were raised above.
    stop.check()
    terminal.say("\n".join(summary.lines(recipe)))
    started = runtime.start(request.devices, request.precision, request.xla)
    refuse_uneven(recipe, started)
    about = _about(recipe, started) | about
    if (own := prepared.requested.own) is not None:
        about["own_settings"] = own_settings.to_plain(own)
    terminal.detail(json.dumps({name: about[name] for name in _DECIDES_BITS}))
    changes += compatibility.of_scores(resumed.record.content, about)
    notes = _notes(run, resumed.record, changes, recipe, about)
    record = run.begin(recipe, prepared.requested.source, about, resumed.record, changes)
    resumed.prior.copy_into(run)
    recipe = replace(recipe, prior=resolved(recipe.prior, run.folder))
    stop.check()
    for note in notes:
        terminal.warn(f"{run.folder}: {note}")
    from engine.training.trainer import Trainer, TrainingPlan
    from engine.training.validation import Validation

    examples = Examples(volumes["training"], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
    validation = Validation(recipe, _until_stopped(volumes["validation"], stop.check))
    plan = TrainingPlan(run, record, recipe, started, examples, validation, terminal)
    Trainer(plan, resumed.start).train(stop)


def _until_stopped(volumes: Sequence[Volume], check_stop: Callable[[], None]) -> Iterator[Volume]:
    """The volumes, with a check for a stop after each one: to use one may take minutes."""
    for volume in volumes:
        yield volume
        check_stop()


def _refuse_seen(
    start: InitialWeights, volumes: dict[str, list[Volume]], terminal: Terminal
) -> None:
    if not start.trained_on:
        terminal.warn(f"{start.folder}: does not record which cases its weights were trained on")
    for case in initial_weights.refuse_seen(start, volumes):
        terminal.warn(f"{case}: {start.run} was trained on another file of that name")


def _notes(
    run: Run, record: RunRecord, changes: Sequence[Changes], recipe: Recipe, about: dict[str, Any]
) -> list[str]:
    """Warnings about a run that is resumed."""
    before, notes = record.content, []
    changed = [name for name in _DECIDES_BITS if before.get(name, about[name]) != about[name]]
    if changed:
        notes.append(f"{', '.join(changed)} changed: resumed, not to the bit")
    done = checkpoint.steps(run.checkpoints)
    was = next((change.before for change in changes if change.before is not None), recipe)
    if done and done[-1] < recipe.steps != was.steps:
        old, new = (r.learning_rate(done[-1], r.steps) for r in (was, recipe))
        if was.learning_rate == recipe.learning_rate and old != new:
            notes.append(
                f"has {recipe.steps:,} steps now: its learning rate continues at {new:g} instead "
                f"of {old:g}"
            )
    if any(text.startswith("scores:") for change in changes for text in change.learned):
        notes.append("is scored by another rule now: scores before and after are not comparable")
    if "TF_CONFIG" in os.environ:
        notes.append("TF_CONFIG is ignored: this process trains alone")
    return notes


def _cases(volumes: dict[str, list[Volume]], found: CaseList) -> dict[str, Any]:
    scale = found.scale()
    left_out = {"left_out": found.left_out()} if found.bad else {}
    return {
        "cases": {side: {v.case: v.sha256 for v in members} for side, members in volumes.items()},
        "voxels": {v.case: v.voxels_sha256 for v in chain(*volumes.values()) if v.voxels_sha256},
        **({"grey_values": {scale.datatype: scale.top}} if scale and scale.top else {}),
        "recordings": {v.case: v.noisy_sha256 for v in chain(*volumes.values()) if v.noisy_sha256},
        **left_out,
    }


def _about(recipe: Recipe, started: runtime.Runtime) -> dict[str, Any]:
    from engine import __version__

    return {
        "engine": __version__,
        "code_sha256": code_sha256(),
        "python": sys.version.split()[0],
        **started.about,
        "replicas": started.replicas,
        "seed": recipe.seed,
        "scores": SCORES_VERSION,
        "command": ["engine", *map(_without_folders, sys.argv[1:])],
    }


def _without_folders(word: str) -> str:
    """A word of the command. Only the last part of an absolute path: folders may name a person."""
    name, equals, value = word.rpartition("=")
    path = Path(value)
    return name + equals + (path.name if path.is_absolute() or value[:1] == "~" else value)
