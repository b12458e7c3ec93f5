"""Fitting: from a recipe and a folder of scans to a trained run."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from engine import checkpoint, origin, prior, runtime
from engine.estimated import settled
from engine.interrupt import Stop, interruptible
from engine.journal import Terminal
from engine.origin import Origin
from engine.recipe import Recipe
from engine.refusals import BadInput, BadUsage, Interrupted, Mismatch
from engine.run import Run
from volumes.dataset import Case, find_cases
from volumes.examples import Examples
from volumes.refusals import Refusal
from volumes.scanned import Scanned, refuse_unscannable
from volumes.store import Store, default_root
from volumes.volume import Volume

Sides = dict[str, list[Case]]

_DECIDES_BITS = (
    "engine", "tensorflow", "keras", "devices", "replicas", "onednn", "threads", "precision", "xla",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """The choices that change how fast a run goes, not what it does."""

    devices: str = "auto"
    precision: str = "auto"
    xla: str = "auto"


def survey(recipe: Recipe, data: Path) -> Sides:
    """The cases of each side of the split, every header judged; all bad files are named at once.

    Raises:
        BadInput: where scans cannot be used, or the split is impossible.
    """
    cases = find_cases(data, recipe.noise.file)
    bad: list[Refusal] = []
    for case in cases:
        try:
            case.open()
            if isinstance(recipe.noise, Scanned):
                refuse_unscannable(case)
        except Refusal as refusal:
            bad.append(refusal)
    _refuse_all(data, bad)
    return recipe.split.assign(data, cases)


def describe(recipe: Recipe, sides: Sides, start: Origin | None = None) -> list[str]:
    """What a run would do, for `--dry-run`."""
    voxels = recipe.batch * math.prod(recipe.crop.shape)
    lines = [f"{side}: {', '.join(case.name for case in cases)}" for side, cases in sides.items()]
    if start is not None:
        lines.append(f"from: {start.run} at step {start.step:,}, sha256 {start.sha256}")
    return [*lines, f"{recipe.steps:,} steps of {recipe.batch} crops, {voxels:,} voxels a step"]


def fit(
    recipe: Recipe, file: Path, data: Path, run: Run, machine: Machine, terminal: Terminal,
    start: Origin | None = None,
) -> None:  # fmt: skip
    """Trains a recipe in a run folder, or goes on with what is there.

    Args:
        recipe: what is trained.
        file: of the recipe.
        data: folder of the cases.
        run: where.
        machine: on what.
        terminal: told what happens.
        start: checkpoint whose weights a new run starts from; a run that was started from one
            remembers it.

    Raises:
        Refusal: of the kind that the exit code of the contract names.
    """
    sides = survey(recipe, data)
    runtime.check(machine.devices, machine.precision, machine.xla)
    with run.locked(), interruptible() as stop:
        done = checkpoint.steps(run.checkpoints)
        if done and done[-1] > recipe.steps:
            cause = f"has {done[-1]:,} steps already, {recipe.steps:,} are asked for"
            raise Mismatch(run.folder, cause, "Ask for more --steps, or start anew with --fresh")
        start = origin.agreed(run, start)
        if start is not None and not done:
            start.weights()  # refused here, if at all
        prior.vet(recipe.prior, recipe.window, run)
        volumes = _volumes(recipe, sides, terminal, lambda: _heed(stop, run))
        if start is not None:
            _refuse_seen(start, volumes, terminal)
        prior.refuse_seen(recipe.prior, run, [*volumes["validation"], *volumes["test"]])
        # TensorFlow takes seconds to import: all that may be refused without it has been.
        started = runtime.start(machine.devices, machine.precision, machine.xla)
        if recipe.batch % started.replicas:
            cause = f"{recipe.batch} examples cannot be shared by {started.replicas} devices"
            raise BadUsage("batch", cause, f"Use a multiple of {started.replicas}")
        about = _about(recipe, started, volumes)
        if start is not None:
            about["started_from"] = start.about()
        terminal.detail(json.dumps({name: about[name] for name in _DECIDES_BITS}))
        changed = [
            name for name in _DECIDES_BITS if run.about().get(name, about[name]) != about[name]
        ]
        run.begin(recipe, file, about)
        prior.adopt(recipe.prior, run)
        recipe = replace(recipe, prior=settled(recipe.prior, run.folder))
        _heed(stop, run)
        if changed:
            terminal.warn(f"{run.folder}: {', '.join(changed)} changed: resumed, not to the bit")
        from engine.evaluate import Validation
        from engine.loop import Loop

        examples = Examples(
            volumes["training"], recipe.crop, recipe.noise, recipe.prior, recipe.seed
        )
        validation = Validation(recipe, volumes["validation"])
        loop = Loop(run, recipe, started, examples, validation, terminal)
        loop.restore(start)
        loop.go(stop)


def _heed(stop: Stop, run: Run) -> None:
    if stop.asked:
        cause = f"stopped before its first step by {stop.asked}"
        raise Interrupted(run.folder, cause, "The same command goes on from there")


def _volumes(
    recipe: Recipe, sides: Sides, terminal: Terminal, heed: Callable[[], None]
) -> dict[str, list[Volume]]:
    store, scanned = Store(default_root()), isinstance(recipe.noise, Scanned)
    cases = [(side, case) for side, cases in sides.items() for case in cases]
    volumes: dict[str, list[Volume]] = {side: [] for side in sides}
    bad: list[Refusal] = []
    with terminal.progress(f"reading scans into {store.root}", len(cases)) as bar:
        for done, (side, case) in enumerate(cases, 1):
            try:
                volumes[side].append(store.volume(case, scanned=scanned))
            except BadInput as refusal:
                bad.append(refusal)
            bar.at(done, case.name)
            heed()
    _refuse_all(cases[0][1].path.parent, bad)
    for volume in (volume for members in volumes.values() for volume in members):
        if volume.saturated:
            terminal.warn(f"{volume.case}: {volume.saturated:,} voxels lie beyond int16 HU")
    _refuse_leaks(volumes)
    return volumes


def _refuse_leaks(volumes: dict[str, list[Volume]]) -> None:
    """The same file under two names must not stand on two sides of a split."""
    seen: dict[str, tuple[str, str]] = {}
    for side, members in volumes.items():
        for volume in members:
            other_side, other = seen.setdefault(volume.sha256, (side, volume.case))
            if other_side != side:
                cause = f"is the same file as {other}, and one is for {side}, one for {other_side}"
                raise BadInput(volume.case, cause, "Remove one of them")


def _refuse_seen(start: Origin, volumes: dict[str, list[Volume]], terminal: Terminal) -> None:
    if not start.trained_on:
        terminal.warn(f"{start.folder}: does not tell on which cases its weights were trained")
    for case in origin.refuse_seen(start, volumes):
        terminal.warn(f"{case}: {start.run} has learned from another file of that name")


def _refuse_all(folder: Path, bad: Sequence[Refusal]) -> None:
    if len(bad) == 1:
        raise bad[0]
    if bad:
        listed = "; ".join(f"{refusal.path} {refusal.cause}" for refusal in bad)
        raise BadInput(folder, f"{len(bad)} scans cannot be used: {listed}", "Mend or remove them")


def _about(
    recipe: Recipe, started: runtime.Runtime, volumes: dict[str, list[Volume]]
) -> dict[str, Any]:
    from engine import __version__

    return {
        "engine": __version__,
        "python": sys.version.split()[0],
        **started.about,
        "replicas": started.replicas,
        "seed": recipe.seed,
        "command": ["engine", *map(_without_folders, sys.argv[1:])],
        "cases": {side: {v.case: v.sha256 for v in members} for side, members in volumes.items()},
        "recordings": {v.case: v.noisy_sha256 for v in chain(*volumes.values()) if v.noisy_sha256},
    }


def _without_folders(word: str) -> str:
    """A word of the command; of an absolute path its last part: the others may name a person."""
    name, equals, value = word.rpartition("=")
    return name + equals + (Path(value).name if Path(value).is_absolute() else value)
