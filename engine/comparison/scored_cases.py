"""The cases of a comparison: those of a split, their volumes, their window and their prior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.errors import BadInput, Mismatch
from engine.runs.trained_model import Model
from engine.terminal import Terminal
from volumes import NeighbourMean, Split, Window
from volumes.dataset import Case
from volumes.dataset.store import Store
from volumes.volume import Volume


def with_split(models: dict[str, Model]) -> dict[str, Model]:
    """The models whose split counts: imported ones, which come from other data, have none here.

    Without others they have: on the data that they learned from.
    """
    return {n: model for n, model in models.items() if model.record.names_tell} or models


def split_cases(
    data: Path, models: dict[str, Model], cases: Sequence[Case], side: str, remedy: str
) -> Sequence[Case]:
    """The cases of a split as recorded by the runs, or of the default split without runs.

    Args:
        data: the folder of the cases.
        models: of the runs, by label.
        cases: all cases of the folder.
        side: "test", "validation" or "all".
        remedy: options that do without a split, for the refusal.

    Raises:
        BadInput: if the default split has too few cases.
        Mismatch: if the runs have different cases, or a case is missing.
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
            return Split().assign(data, cases)[side]
        except BadInput as error:
            raise BadInput(error.path, error.cause, f"Add cases, or use {remedy}") from error
    first, names = next(iter(declared.items()))
    for other, others in declared.items():
        if others != names:
            cause = f"{first} and {other} have different splits: {side} differs"
            raise Mismatch(data, cause, "Compare runs with the same split, or use --split all")
    found = [case for case in cases if case.name in names]
    if not names or len(found) < len(names):
        missing = sorted(set(names) - {case.name for case in cases}) or ["any"]
        remedy = "Name the data of the runs, or use --split all"
        raise Mismatch(data, f"does not hold {missing[0]} of {side}", remedy)
    return found


def window_of(cases: Sequence[Case]) -> Window:
    """The window that suits scans, photographs or pairs, if no run has one."""
    scale = cases[0].scale()
    return Window() if scale is None else scale.window


def prior_of(models: dict[str, Model]) -> NeighbourMean:
    """The prior of classical methods: that of the networks, unless it is the clean image."""
    priors = {model.recipe.prior for model in models.values() if model.recipe.prior}
    seen = [prior for prior in priors if not prior.of.is_oracle]
    # Networks with different priors do not determine it.
    return seen[0] if len(seen) == 1 else NeighbourMean()


def read_volumes(
    store: Store, cases: Sequence[Case], terminal: Terminal, *, scanned: bool = False
) -> dict[str, Volume]:
    """The volumes of cases, by their names. What is odd about a file is said once."""
    volumes: dict[str, Volume] = {}
    for case in dict.fromkeys(cases):
        terminal.warn_once(case.oddities())
        volumes[case.name] = volume = store.volume(case, scanned=scanned)
        terminal.warn_once(volume.odd)
    return volumes
