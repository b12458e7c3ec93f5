"""Fairness: what a comparison must refuse, and of what it must warn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.comparison.methods import Entrant
from engine.comparison.noise_levels import Level
from engine.errors import BadUsage, Mismatch
from engine.runs.trained_model import Model
from engine.terminal import Terminal
from volumes.volume import Volume


def refuse_others(
    data: Path, split: str, models: dict[str, Model], volumes: Sequence[Volume]
) -> None:
    """Scans that only share their name with those of a run are not that run's split.

    Raises:
        Mismatch: naming the first of them.
    """
    if split == "all":
        return
    for name, model in models.items():
        declared = model.record.cases.get(split, {})
        other = [v.case for v in volumes if declared.get(v.case, v.sha256) != v.sha256]
        if other:
            cause = f"holds another {other[0]} than {name} was split with"
            raise Mismatch(data, cause, "Name the data of the runs, or use --split all")


def refuse_seen(data: Path, entering: Sequence[Entrant], volumes: Sequence[Volume]) -> None:
    """Neither a network nor the one behind its prior may have learned from what is scored.

    Raises:
        Mismatch: where one has, by the case's name or its content.
    """
    for entrant in entering:
        for model in entrant.behind():
            if seen := model.seen(volumes):
                cause = f"{entrant.label} was trained on {seen[0]}"
                remedy = "Use --split test, or ask for it by --allow-seen"
                raise Mismatch(data, cause, remedy)


def refuse_seen_in_tuning(
    data: Path, entering: Sequence[Entrant], volumes: Sequence[Volume]
) -> None:
    """A prior is better where its network has learned: what is chosen there suits no other case.

    Raises:
        Mismatch: where a classical method would be tuned with such a prior.
    """
    for entrant in entering:
        for model in entrant.behind() if entrant.method else ():
            if seen := model.seen(volumes):
                cause = f"{entrant.label} is to be tuned on {seen[0]}, which its prior has seen"
                remedy = "Use --no-tuning, or ask for it by --allow-seen"
                raise Mismatch(data, cause, remedy)


def refuse_untold(entering: Sequence[Entrant], levels: Sequence[Level]) -> None:
    """A network that sees the dose is told it by a level that has one.

    Raises:
        BadUsage: naming the first level that has none.
    """
    without = [level.label for level in levels if level.noise.typical_photons is None]
    for entrant in entering if without else ():
        if entrant.model and entrant.model.recipe.network.sees_dose:
            cause = f"{without[0]} has no dose, which {entrant.label} wants to be told"
            raise BadUsage("--as", cause, "Compare it under low_dose:PHOTONS alone")


def warn(entering: Sequence[Entrant], terminal: Terminal) -> None:
    """Says of which methods a score means less than it seems."""
    if oracles := [entrant.label for entrant in entering if entrant.is_oracle]:
        terminal.warn(f"{', '.join(oracles)}: given the clean image, a bound and no method")
    records = {m.run: m.record for entrant in entering for m in entrant.behind()}
    for run, record in records.items():
        if not record.tells_what_it_learned_from:
            cause = "does not tell on which cases it was trained; they may be among these"
            terminal.warn(f"{run.folder}: {cause}")
