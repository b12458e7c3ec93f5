"""Eligibility: the checks that make a comparison fair, and its warnings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.comparison.methods import ComparedMethod
from engine.comparison.noise_levels import Level
from engine.errors import BadUsage, Mismatch
from engine.runs.trained_model import Model
from engine.terminal import Terminal
from volumes.dataset.twins import twins
from volumes.volume import Volume


def refuse_others(
    data: Path, split: str, models: dict[str, Model], volumes: Sequence[Volume]
) -> None:
    """Refuses scans that have the name of a case of a run but other content.

    Raises:
        Mismatch: with the first of them.
    """
    if split == "all":
        return
    for name, model in models.items():
        files, voxels = model.record.cases.get(split, {}), model.record.voxels
        known = ({files.get(v.case, v.sha256), voxels.get(v.case)} for v in volumes)
        other = [v.case for v, hashes in zip(volumes, known, strict=True)
                 if not hashes & set(v.hashes)]  # fmt: skip
        if other:
            cause = f"has another {other[0]} than the split of {name}"
            raise Mismatch(data, cause, "Name the data of the runs, or use --split all")


def refuse_seen(data: Path, methods: Sequence[ComparedMethod], volumes: Sequence[Volume]) -> None:
    """Refuses to score cases that a network, or the network behind a prior, was trained on.

    Raises:
        Mismatch: if a case has the name or the content of a training case.
    """
    for method in methods:
        for model in method.behind():
            if seen := model.seen(volumes):
                cause = f"{method.label} was trained on {seen[0]}"
                remedy = "Use --split test, or ask for it by --allow-seen"
                raise Mismatch(data, cause, remedy)


def refuse_seen_in_tuning(
    data: Path, methods: Sequence[ComparedMethod], volumes: Sequence[Volume]
) -> None:
    """Refuses to tune on cases that the network behind a prior was trained on.

    A prior is better on such cases, so parameters tuned there do not fit others.

    Raises:
        Mismatch: if a classical method would be tuned on such a case.
    """
    for method in methods:
        for model in method.behind() if method.classical else ():
            if seen := model.seen(volumes):
                cause = (
                    f"{method.label} would be tuned on {seen[0]}, which its prior was trained on"
                )
                remedy = "Use --no-tuning, or ask for it by --allow-seen"
                raise Mismatch(data, cause, remedy)


def refuse_without_dose(methods: Sequence[ComparedMethod], levels: Sequence[Level]) -> None:
    """Refuses noise levels without a photon count for dose-aware networks.

    Raises:
        BadUsage: with the first such level.
    """
    without = [level.label for level in levels if level.noise.typical_photons is None]
    for method in methods if without else ():
        if method.model and method.model.recipe.network.sees_dose:
            cause = f"{without[0]} has no dose, which {method.label} needs"
            raise BadUsage("--as", cause, "Use only low_dose:PHOTONS")


def warn_of_twins(
    data: Path, scored: Sequence[Volume], tuned: Sequence[Volume], terminal: Terminal
) -> None:
    """Warns of voxels that are scored twice, or that methods are tuned on and scored on."""
    for found in twins([("scored", volume) for volume in scored]):
        terminal.warn(f"{found.case}: has the voxels of {found.other}, and counts twice")
    sides = [("scored", volume) for volume in scored] + [("tuned", volume) for volume in tuned]
    if both := [found.case for found in twins(sides) if found.side != found.other_side]:
        terminal.warn(
            f"{data}: {', '.join(both)} are used for tuning classical methods and for scoring: "
            "these methods have an advantage"
        )


def warn_of_oracles(methods: Sequence[ComparedMethod], terminal: Terminal) -> None:
    """Warns of oracles, and of networks whose training cases are unknown."""
    if oracles := [method.label for method in methods if method.is_oracle]:
        terminal.warn(
            f"{', '.join(oracles)}: given the clean image, so the score is an upper bound"
        )
    records = {m.run: m.record for method in methods for m in method.behind()}
    for run, record in records.items():
        if not record.tells_what_it_learned_from:
            cause = "does not list its training cases; they may be among the scored cases"
            terminal.warn(f"{run.folder}: {cause}")
