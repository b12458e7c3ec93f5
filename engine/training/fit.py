"""Fitting: from a recipe and a folder of scans to a trained run."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from engine import runtime
from engine.checkpoints import checkpoint
from engine.errors import BadUsage, Interrupted, Mismatch
from engine.recipe.network_prior import settled
from engine.recipe.recipe import Recipe
from engine.recipe.serialization import to_json
from engine.runs import initial_weights, prior_network
from engine.runs.initial_weights import Origin
from engine.runs.run import Run
from engine.runtime import code_sha256
from engine.terminal import Terminal
from engine.training.cases import Survey, read
from engine.training.signals import Stop
from volumes.sampling.examples import Examples
from volumes.volume import Volume

_DECIDES_BITS = (
    "engine", "code_sha256", "tensorflow", "keras", "devices", "replicas", "onednn", "threads",
    "precision", "xla",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """The choices that change how fast a run goes, not what it does."""

    devices: str = "auto"
    precision: str = "auto"
    xla: str = "auto"


@dataclass(frozen=True)
class Consent:
    """What is refused unless the user has said that it may be.

    Attributes:
        changes: to go on with another recipe or other cases.
        skip_bad: to do without the scans that cannot be used.
    """

    changes: bool = False
    skip_bad: bool = False


_NONE = Consent()


def describe(recipe: Recipe, found: Survey, start: Origin | None = None) -> list[str]:
    """What a run would do, for `--dry-run`."""
    voxels = recipe.batch * math.prod(recipe.crop.shape)
    sides = found.good().items()
    lines = [f"{side}: {', '.join(case.name for case in cases)}" for side, cases in sides]
    lines += [f"left out: {refusal.path} {refusal.cause}" for refusal in found.bad.values()]
    if start is not None:
        lines.append(f"from: {start.run} at step {start.step:,}, sha256 {start.sha256}")
    return [*lines, f"{recipe.steps:,} steps of {recipe.batch} crops, {voxels:,} voxels a step"]


def fit(
    recipe: Recipe, file: Path, found: Survey, run: Run, machine: Machine, terminal: Terminal,
    stop: Stop, start: Origin | None = None, consent: Consent = _NONE,
) -> None:  # fmt: skip
    """Trains a recipe in a run folder, or goes on with what is there.

    Args:
        recipe: what is trained.
        file: of the recipe.
        found: the cases, as `survey` has found them.
        run: where.
        machine: on what.
        terminal: told what happens.
        stop: heeded between scans and between steps.
        start: checkpoint whose weights a new run starts from; a run that was started from one
            remembers it.
        consent: to what is refused otherwise.

    Raises:
        Refusal: of the kind that the exit code of the contract names.
    """
    runtime.check(machine.devices, machine.precision, machine.xla)
    resolved = to_json(recipe).rstrip()
    with run.locked():
        run.sweep()
        run.refuse_untold()
        done = run.newest(terminal.warn)
        if done is not None and done.step > recipe.steps:
            cause = f"has {done.step:,} steps already, {recipe.steps:,} are asked for"
            raise Mismatch(run.folder, cause, "Ask for more --steps, or start anew with --fresh")
        run.refuse_changed(recipe, accepted=consent.changes)
        start = initial_weights.agreed(run, start)
        if start is not None and done is None:
            start.weights()  # refused here, if at all
        prior_network.vet(recipe.prior, recipe.window, run)
        heed = partial(_heed, stop, run)
        volumes, found = read(found, recipe, terminal, heed, skip_bad=consent.skip_bad)
        about = _cases(volumes, found)
        if start is not None:
            _refuse_seen(start, volumes, terminal)
            about["started_from"] = start.about()
        prior_network.refuse_seen(recipe.prior, run, [*volumes["validation"], *volumes["test"]])
        run.refuse_changed(recipe, about, accepted=consent.changes)
        # TensorFlow takes seconds to import: all that may be refused without it has been.
        _heed(stop, run)
        terminal.say(resolved)
        started = runtime.start(machine.devices, machine.precision, machine.xla)
        if recipe.batch % started.replicas:
            cause = f"{recipe.batch} examples cannot be shared by {started.replicas} devices"
            raise BadUsage("batch", cause, f"Use a multiple of {started.replicas}")
        about = _about(recipe, started) | about
        terminal.detail(json.dumps({name: about[name] for name in _DECIDES_BITS}))
        notes = _notes(run, recipe, about)
        run.begin(recipe, file, about, accepted=consent.changes)
        prior_network.adopt(recipe.prior, run)
        recipe = replace(recipe, prior=settled(recipe.prior, run.folder))
        _heed(stop, run)
        for note in notes:
            terminal.warn(f"{run.folder}: {note}")
        from engine.training.trainer import Loop
        from engine.training.validation import Validation

        examples = Examples(
            volumes["training"], recipe.crop, recipe.noise, recipe.prior, recipe.seed
        )
        validation = Validation(recipe, _heeding(volumes["validation"], stop, run))
        loop = Loop(run, recipe, started, examples, validation, terminal)
        loop.restore(start)
        loop.go(stop)


def _heed(stop: Stop, run: Run) -> None:
    if stop.asked:
        cause = f"stopped before its first step by {stop.asked}"
        raise Interrupted(run.folder, cause, "The same command goes on from there")


def _heeding(volumes: Sequence[Volume], stop: Stop, run: Run) -> Iterator[Volume]:
    """Volumes whose use may take minutes each."""
    for volume in volumes:
        yield volume
        _heed(stop, run)


def _refuse_seen(start: Origin, volumes: dict[str, list[Volume]], terminal: Terminal) -> None:
    if not start.trained_on:
        terminal.warn(f"{start.folder}: does not tell on which cases its weights were trained")
    for case in initial_weights.refuse_seen(start, volumes):
        terminal.warn(f"{case}: {start.run} has learned from another file of that name")


def _notes(run: Run, recipe: Recipe, about: dict[str, Any]) -> list[str]:
    """What must be said of a run that goes on."""
    before, notes = run.about(), []
    changed = [name for name in _DECIDES_BITS if before.get(name, about[name]) != about[name]]
    if changed:
        notes.append(f"{', '.join(changed)} changed: resumed, not to the bit")
    done = checkpoint.steps(run.checkpoints)
    if done and done[-1] < recipe.steps and (was := run.recipe()).steps != recipe.steps:
        old, new = (r.learning_rate(done[-1], r.steps) for r in (was, recipe))
        if was.learning_rate == recipe.learning_rate and old != new:
            notes.append(
                f"of {recipe.steps:,} steps now, its learning rate goes on at {new:g} instead of "
                f"{old:g}"
            )
    if "TF_CONFIG" in os.environ:
        notes.append("TF_CONFIG is not heeded: this process trains alone")
    return notes


def _cases(volumes: dict[str, list[Volume]], found: Survey) -> dict[str, Any]:
    left_out = {"left_out": found.left_out()} if found.bad else {}
    return {
        "cases": {side: {v.case: v.sha256 for v in members} for side, members in volumes.items()},
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
        "command": ["engine", *map(_without_folders, sys.argv[1:])],
    }


def _without_folders(word: str) -> str:
    """A word of the command; of an absolute path its last part: the others may name a person."""
    name, equals, value = word.rpartition("=")
    return name + equals + (Path(value).name if Path(value).is_absolute() else value)
