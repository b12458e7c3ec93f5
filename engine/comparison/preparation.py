"""Preparation of a comparison: its cases are found, split, read, and checked to be fair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from engine.comparison.classical import METHODS
from engine.comparison.compare import Comparison
from engine.comparison.eligibility import (
    refuse_others,
    refuse_seen,
    refuse_seen_in_tuning,
    warn_of_oracles,
    warn_of_twins,
)
from engine.comparison.evaluate_request import EvaluateRequest
from engine.comparison.methods import ComparedMethod
from engine.comparison.noise_levels import Level
from engine.comparison.scored_cases import (
    prior_of,
    read_volumes,
    split_cases,
    window_of,
    with_split,
)
from engine.runs.trained_model import Model
from engine.terminal import Terminal
from volumes import Window
from volumes.dataset import Case, find_cases
from volumes.dataset.grey_values import GreyWanted
from volumes.dataset.store import Store, default_root
from volumes.sampling.scanner_noise import refuse_unscannable


@dataclass(frozen=True)
class _Sides:
    """The cases of a comparison, which nothing has read yet.

    Attributes:
        scored: the cases to be scored.
        tuning: those that classical methods are tuned on.
        recorded: by label of a recorded level, the cases with their recordings.
    """

    scored: Sequence[Case]
    tuning: Sequence[Case]
    recorded: dict[str, list[Case]]


def prepare(
    request: EvaluateRequest, methods: Sequence[ComparedMethod], levels: Sequence[Level],
    terminal: Terminal,
) -> Comparison:  # fmt: skip
    """What is compared on what: the scans of each side, read and checked to be fair.

    Raises:
        BadInput: if a scan cannot be used.
        Mismatch: if a method has learned from what is scored, or runs were split differently.
    """
    models = {method.label: method.model for method in methods if method.model}
    window, splitting = _window(methods), with_split(models)
    sides = _sides(request, methods, levels, window, splitting, terminal)
    scanned = any(level.noise.scanned for level in levels)
    if scanned:
        for case in (*sides.scored, *sides.tuning):
            refuse_unscannable(case)
    store = Store(default_root(), terminal.warn)
    volumes = read_volumes(store, [*sides.scored, *sides.tuning], terminal, scanned=scanned)
    recorded = {
        label: read_volumes(store, [case for case in cases if case.name in volumes], terminal)
        for label, cases in sides.recorded.items()
    }
    held = [volumes[case.name] for case in sides.scored]
    tuned = [volumes[case.name] for case in sides.tuning]
    refuse_others(request.data, request.split, splitting, held)
    if not request.allow_seen:
        refuse_seen(request.data, methods, held)
        refuse_seen_in_tuning(request.data, methods, tuned)
    warn_of_twins(request.data, held, tuned if request.tuning == "validation" else [], terminal)
    warn_of_oracles(methods, terminal)
    return Comparison(
        methods=methods, cases=held, tuning=tuned, levels=levels,
        window=window or window_of(sides.scored), prior=prior_of(models),
        protocol=request.protocol, slices=request.slices, recorded=recorded,
    )  # fmt: skip


def _window(methods: Sequence[ComparedMethod]) -> Window | None:
    """The window of the networks; None without any.

    It clips if all of them do. Each clips its own input, so that their order does not matter.
    """
    windows = [model.recipe.window for method in methods for model in method.behind()]
    clip = all(window.clip for window in windows)
    return replace(windows[0], clip=clip) if windows else None


def _sides(
    request: EvaluateRequest, methods: Sequence[ComparedMethod], levels: Sequence[Level],
    window: Window | None, splitting: dict[str, Model], terminal: Terminal,
) -> _Sides:  # fmt: skip
    """Finds the cases, and splits them.

    Raises:
        BadInput: if there are no cases, or too few.
        Mismatch: if runs were split differently.
    """
    behind = [model for method in methods for model in method.behind()]
    tops = tuple(top for model in behind[:1] for top in model.record.tops)
    grey = GreyWanted(window, request.reading.hu, tops)
    files = {level.label: level.noise.file for level in levels if level.noise.file is not None}
    # Beside recordings, it is clear which scans are the cases.
    beside = next(iter(files.values()), None)
    find = partial(find_cases, request.data, trust=request.reading, grey=grey)
    found = {beside: find(beside, listener=terminal)}
    found |= {file: find(file) for file in files.values() if file != beside}
    cases = [replace(case, noisy=None) for case in found[beside]]
    whole = "--no-tuning" if request.split == "all" else "--split all --no-tuning"
    split = partial(split_cases, request.data, splitting, cases)
    scored = split(request.split, whole)
    if scale := cases[0].scale():
        terminal.say(f"{request.data}: {scale.told}")
    tuning: Sequence[Case] = ()
    if request.tuning != "none" and any(
        METHODS[method.classical]().candidates()[1:] for method in methods if method.classical
    ):
        tuning = split("validation", whole) if request.tuning == "validation" else scored
    return _Sides(scored, tuning, {label: found[file] for label, file in files.items()})
