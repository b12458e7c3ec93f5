"""Compatibility: which changes of its recipe and its cases a run accepts.

Some changes make another run, such as another network. Some change what the run learns from here
on: they need the user's consent and are recorded in run.json. Others change nothing that it learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import Mismatch
from engine.recipe.recipe import Recipe
from engine.recipe.serialization import differences
from volumes.errors import listed

# Free to change: a run may be made longer, or saved and validated at other steps.
MAY_CHANGE = ("steps", "validate_every", "checkpoint_every")

_SCORED_BY = ("window.", "noise.", "prior", "validate_slices", "validate_at", "best_by")
ANEW = "choose another --run, or start anew with --fresh"


@dataclass(frozen=True)
class Changes:
    """The differences between a run and a request.

    Attributes:
        kind: what differs, such as "of another recipe".
        forbidden: differences that cannot be accepted.
        learned: differences that change what the run learns.
        rescored: whether scores before and after are not comparable.
        before: the run's recipe, where recipes are compared.
    """

    kind: str
    forbidden: Sequence[str] = ()
    learned: Sequence[str] = ()
    rescored: bool = False
    before: Recipe | None = None

    def refuse(self, folder: Path, *, accepted: bool) -> None:
        """Refuses forbidden changes, and others that the user has not accepted.

        Raises:
            Mismatch: with the differences, old -> new.
        """
        if self.forbidden:
            cause = f"holds a run {self.kind} ({listed(self.forbidden, '; ')})"
            raise Mismatch(folder, cause, ANEW.capitalize())
        if self.learned and not accepted:
            cause = f"holds a run {self.kind} ({listed(self.learned, '; ')})"
            raise Mismatch(folder, cause, f"Continue with --accept-changes, {ANEW}")


def of_recipe(before: Recipe, after: Recipe, rewritten: Sequence[str] = ()) -> Changes:
    """The differences between two recipes.

    Args:
        before: of the run.
        after: that is requested.
        rewritten: files of the recipe that define something else now. What that changes is not
            known, so that scores are not comparable.
    """
    differing = differences(before, after, but=MAY_CHANGE)
    # A checkpoint without an average cannot continue with one.
    fixed: tuple[str, ...] = ("network.", "average:")
    if _estimated(before) or _estimated(after):
        # The run holds a copy of that network, which needs the units of one window.
        fixed = (*fixed, "prior.of", "window.")
    forbidden = [text for text in differing if text.startswith(fixed)]
    learned = [text for text in differing if text not in forbidden] + list(rewritten)
    rescored = bool(rewritten) or any(text.startswith(_SCORED_BY) for text in learned)
    return Changes("of another recipe", forbidden, learned, rescored, before)


def of_cases(before: Mapping[str, Any], after: Mapping[str, Any], recipe: Recipe) -> Changes:
    """The differences between the cases of two run.json; none if the first one has no cases.

    Args:
        before: of run.json: `cases` by side, `recordings` and `voxels`, each a SHA-256 by name. A
            file with the voxels of before, for example compressed again, is no change.
        after: likewise.
        recipe: its prior may be the estimate of a network, which was checked for these cases.
    """
    after = {**after, "cases": _known(before, after)}
    sides = before.get("cases") or after["cases"]
    changed = {
        side: _named(f"{side}: ", sides.get(side, {}), after["cases"].get(side, {}))
        for side in {**sides, **after["cases"]}
    }
    recordings = before.get("recordings", after.get("recordings", {}))
    recorded = _named("recording of ", recordings, after.get("recordings", {}))
    differing = [text for texts in changed.values() for text in texts]
    kind = "on other cases" if differing else "on other recordings"
    differing += recorded
    rescored = bool(changed.get("validation") or recorded)
    if _estimated(recipe):
        return Changes(kind, differing, [], rescored)
    return Changes(kind, [], differing, rescored)


def of_scores(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Changes]:
    """The change of how scores are defined since a run began; empty if there is none.

    It needs no consent: nothing else is learned, but the best checkpoint is chosen anew.

    Args:
        before: of run.json; empty for a new run.
        after: likewise.
    """
    old, new = (content.get("scores", 1) for content in (before, after))
    changed = [f"scores: version {old} -> {new}"] if before and old != new else []
    return [Changes("with other scores", [], changed, rescored=True)] if changed else []


def refuse_learned_from(
    folder: Path, learned_from: Mapping[str, str], about: Mapping[str, Any]
) -> None:
    """Refuses to score a run on cases that it learned from before its cases were changed.

    Args:
        folder: of the run.
        learned_from: see `RunRecord.learned_from`.
        about: the present cases, in the form of run.json.

    Raises:
        Mismatch: naming the first such case.
    """
    for side in ("validation", "test"):
        for name, sha256 in about["cases"].get(side, {}).items():
            for known in (sha256, about.get("voxels", {}).get(name)):
                if known in learned_from:
                    cause = f"has learned from {learned_from[known]}, and {name} is for {side}"
                    raise Mismatch(folder, cause, ANEW.capitalize())


def _known(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The cases of `after`, with the file hash of `before` where the voxels are those of before."""
    files = {name: sha256 for side in before.get("cases", {}).values()
             for name, sha256 in side.items()}  # fmt: skip
    old, new = before.get("voxels", {}), after.get("voxels", {})
    same = {name for name in files if name in old and old[name] == new.get(name)}
    return {
        side: {name: files[name] if name in same else sha256 for name, sha256 in members.items()}
        for side, members in after.get("cases", {}).items()
    }


def _named(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    texts = []
    for name in sorted({**before, **after}):
        if name not in after:
            texts.append(f"{what}{name} -> none")
        elif name not in before:
            texts.append(f"{what}none -> {name}")
        elif before[name] != after[name]:
            texts.append(f"{what}{name} {before[name][:8]} -> {after[name][:8]}")
    return texts


def _estimated(recipe: Recipe) -> bool:
    return recipe.prior is not None and recipe.prior.of.network_run is not None
