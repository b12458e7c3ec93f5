"""Changes: what a run may become without being another run.

Some make it another one (its network), some change what it learns from here on (with the user's
consent, and noted in run.json), some change nothing that it learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import Mismatch
from engine.recipe.network_prior import Estimated
from engine.recipe.recipe import Recipe
from engine.recipe.serialization import differences

# A run may be made longer, or saved and validated at other steps, as one likes.
MAY_CHANGE = ("steps", "validate_every", "checkpoint_every")

_SCORED_BY = ("window.", "noise.", "prior", "validate_slices", "validate_at")
_ANEW = "choose another --run, or start anew with --fresh"
_LISTED = 3


@dataclass(frozen=True)
class Changes:
    """How a run differs from what is asked of it.

    Attributes:
        kind: what the run would be of, such as "another recipe".
        forbidden: differences that no consent bridges.
        learned: those that change what it learns.
        rescored: whether scores from here on compare with none from before.
    """

    kind: str
    forbidden: Sequence[str] = ()
    learned: Sequence[str] = ()
    rescored: bool = False

    def refuse(self, folder: Path, *, accepted: bool) -> None:
        """Refuses what may not be, or was not consented to.

        Raises:
            Mismatch: with the differences, old -> new.
        """
        if self.forbidden:
            cause = f"holds a run {self.kind} ({_listed(self.forbidden)})"
            raise Mismatch(folder, cause, _ANEW.capitalize())
        if self.learned and not accepted:
            cause = f"holds a run {self.kind} ({_listed(self.learned)})"
            raise Mismatch(folder, cause, f"Go on with --accept-changes, {_ANEW}")


def of_recipe(before: Recipe, after: Recipe) -> Changes:
    """How two recipes differ."""
    differing = differences(before, after, but=MAY_CHANGE)
    # A checkpoint without an average cannot go on with one.
    fixed: tuple[str, ...] = ("network.", "average:")
    if _estimated(before) or _estimated(after):
        # The run holds a copy of that network, which works in the units of one window.
        fixed = (*fixed, "prior.of", "window.")
    forbidden = [text for text in differing if text.startswith(fixed)]
    learned = [text for text in differing if text not in forbidden]
    rescored = any(text.startswith(_SCORED_BY) for text in learned)
    return Changes("of another recipe", forbidden, learned, rescored)


def of_cases(before: Mapping[str, Any], after: Mapping[str, Any], recipe: Recipe) -> Changes:
    """How the cases of two run.json differ; one that says nothing of its cases differs in nothing.

    Args:
        before: of run.json: `cases` by side and `recordings`, each a sha256 by name.
        after: likewise.
        recipe: whose prior may be the estimate of a network, which was vetted for these cases.
    """
    sides = before.get("cases") or after.get("cases", {})
    told = {
        side: _named(f"{side}: ", sides.get(side, {}), after.get("cases", {}).get(side, {}))
        for side in {**sides, **after.get("cases", {})}
    }
    recordings = before.get("recordings", after.get("recordings", {}))
    heard = _named("recording of ", recordings, after.get("recordings", {}))
    differing = [text for texts in told.values() for text in texts]
    kind = "on other cases" if differing else "on other recordings"
    differing += heard
    rescored = bool(told.get("validation") or heard)
    if _estimated(recipe):
        return Changes(kind, differing, [], rescored)
    return Changes(kind, [], differing, rescored)


def refuse_learned_from(
    folder: Path, learned_from: Mapping[str, str], cases: Mapping[str, Mapping[str, str]]
) -> None:
    """Refuses to score a run on what it has learned from before its cases were changed.

    Raises:
        Mismatch: naming the first such case.
    """
    for side in ("validation", "test"):
        for name, sha256 in cases.get(side, {}).items():
            if sha256 in learned_from:
                cause = f"has learned from {learned_from[sha256]}, and {name} is for {side}"
                raise Mismatch(folder, cause, _ANEW.capitalize())


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


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _LISTED
    return "; ".join([*texts[:_LISTED], *([f"and {more} more"] if more > 0 else [])])


def _estimated(recipe: Recipe) -> bool:
    return recipe.prior is not None and isinstance(recipe.prior.of, Estimated)
