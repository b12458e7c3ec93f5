"""The survey: what the scans of a folder are worth to a recipe, before anything is learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import BadInput
from engine.recipe.recipe import Recipe
from engine.terminal import Terminal
from volumes.dataset import Case, find_cases
from volumes.dataset.store import Store, default_root
from volumes.errors import Refusal
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.sampling.scanner_noise import refuse_unscannable
from volumes.volume import Volume

Sides = dict[str, list[Case]]


@dataclass(frozen=True)
class Survey:
    """The cases of a folder.

    Attributes:
        data: the folder.
        sides: every case by its side of the split, bad ones included: a scan that is mended later
            finds all others where they were.
        bad: why a case cannot be used, by its name.
    """

    data: Path
    sides: Sides
    bad: Mapping[str, Refusal] = field(default_factory=dict)

    def refuse(self, *, skip_bad: bool) -> None:
        """Refuses bad cases, all in one line, or what is left without them.

        Args:
            skip_bad: whether the user wants to do without them.

        Raises:
            BadInput: where there are any, or no case of training or validation is left.
        """
        for side in ("training", "validation") if skip_bad else ():
            if not self.good()[side]:
                cause = f"has no case left for {side} without the {len(self.bad)} that are bad"
                raise BadInput(self.data, cause, "Mend them, or name other cases in the split")
        if skip_bad or not self.bad:
            return
        if len(self.bad) == 1:
            raise next(iter(self.bad.values()))
        listed = "; ".join(f"{refusal.path} {refusal.cause}" for refusal in self.bad.values())
        cause = f"{len(self.bad)} scans cannot be used: {listed}"
        raise BadInput(self.data, cause, "Mend or remove them, or leave them out by --skip-bad")

    def good(self) -> Sides:
        """The cases that can be used."""
        return {
            side: [case for case in cases if case.name not in self.bad]
            for side, cases in self.sides.items()
        }

    def left_out(self) -> dict[str, dict[str, str]]:
        """Why a case is left out, by its side and name, for run.json."""
        return {
            side: {c.name: self.bad[c.name].cause for c in cases if c.name in self.bad}
            for side, cases in self.sides.items()
        }


def survey(recipe: Recipe, data: Path, trust: ReadOptions = STRICT) -> Survey:
    """The cases of each side of the split, every header judged.

    Args:
        recipe: that is fitted.
        data: the folder.
        trust: what is taken on trust of the scans.

    Raises:
        BadInput: where there are none, or the split is impossible.
    """
    cases = find_cases(data, recipe.noise.file, trust=trust)
    bad: dict[str, Refusal] = {}
    for case in cases:
        try:
            case.open()
            if recipe.noise.scanned:
                refuse_unscannable(case)
        except Refusal as refusal:
            bad[case.name] = refusal
    return Survey(data, recipe.split.assign(data, cases), bad)


def read(
    found: Survey, recipe: Recipe, terminal: Terminal, heed: Callable[[], None], *, skip_bad: bool
) -> tuple[dict[str, list[Volume]], Survey]:
    """The volumes of each side, every scan read to its end once, and the survey that is then known.

    What is read is kept in the store, so nothing is read twice once all that is bad was mended.

    Args:
        found: by `survey`.
        recipe: that is fitted.
        terminal: told how far it is, and of what is left out.
        heed: called after each case; may raise.
        skip_bad: whether bad cases are left out, not refused.

    Raises:
        BadInput: naming all scans that cannot be used, by their header or by their voxels.
        CannotWrite: where neither the store nor memory holds a scan.
    """
    store = Store(default_root(), terminal.warn)
    scanned = recipe.noise.scanned
    cases = [(side, case) for side, cases in found.good().items() for case in cases]
    volumes: dict[str, list[Volume]] = {side: [] for side in found.sides}
    bad = dict(found.bad)
    with terminal.progress(f"reading scans into {store.root}", len(cases)) as bar:
        for done, (side, case) in enumerate(cases, 1):
            try:
                volumes[side].append(store.volume(case, scanned=scanned))
            except BadInput as refusal:
                bad[case.name] = refusal
            bar.at(done, case.name)
            heed()
    # In the order of the cases, whichever was found first.
    order = sorted(bad)
    known = Survey(found.data, found.sides, {name: bad[name] for name in order})
    known.refuse(skip_bad=skip_bad)
    for why in known.bad.values():
        terminal.warn(f"{why.path}: {why.cause}: left out")
    for volume in (volume for members in volumes.values() for volume in members):
        terminal.doubt(volume.odd)
    _refuse_leaks(volumes)
    return volumes, known


def _refuse_leaks(volumes: dict[str, list[Volume]]) -> None:
    """The same file under two names must not stand on two sides of a split."""
    seen: dict[str, tuple[str, str]] = {}
    for side, members in volumes.items():
        for volume in members:
            other_side, other = seen.setdefault(volume.sha256, (side, volume.case))
            if other_side != side:
                cause = f"is the same file as {other}, and one is for {side}, one for {other_side}"
                raise BadInput(volume.case, cause, "Remove one of them")
