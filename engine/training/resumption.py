"""Resumption: a run compared with the request, before anything is written.

A dry run makes the same comparisons as a training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from engine.checkpoints import checkpoint
from engine.errors import Mismatch
from engine.recipe.recipe import Recipe
from engine.runs import initial_weights, prior_network
from engine.runs.compatibility import Changes
from engine.runs.initial_weights import InitialWeights
from engine.runs.prior_network import PriorNetwork
from engine.runs.record import RunRecord
from engine.runs.training_run import TrainingRun
from engine.terminal import Terminal
from engine.training.cases import CaseList
from engine.training.fit_request import FitRequest
from engine.training.preparation import Prepared
from engine.training.provenance import DECIDES_BITS, about_cases
from volumes.volume import Volume


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
    about = about_cases(volumes, found)
    if start is not None:
        _refuse_seen(start, volumes, terminal)
        about["started_from"] = start.about()
    resumed.prior.refuse_seen([*volumes["validation"], *volumes["test"]])
    changed = run.changed_cases(resumed.record, about, recipe, accepted=request.accept_changes)
    return about, [*resumed.changes, *changed]


def resume_notes(
    run: TrainingRun,
    record: RunRecord,
    changes: Sequence[Changes],
    recipe: Recipe,
    about: dict[str, Any],
) -> list[str]:
    """Warnings about a run that is resumed."""
    before, notes = record.content, []
    changed = [name for name in DECIDES_BITS if before.get(name, about[name]) != about[name]]
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
    return notes


def _refuse_seen(
    start: InitialWeights, volumes: dict[str, list[Volume]], terminal: Terminal
) -> None:
    if not start.trained_on:
        terminal.warn(f"{start.folder}: does not record which cases its weights were trained on")
    for case in initial_weights.refuse_seen(start, volumes):
        terminal.warn(f"{case}: {start.run} was trained on another file of that name")
