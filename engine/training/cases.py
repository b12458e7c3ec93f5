"""Cases of a training: the scans of a folder, checked, read and split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import BadInput
from engine.recipe.recipe import Recipe
from engine.terminal import Terminal
from volumes.dataset import Case, find_cases
from volumes.dataset.grey_values import GreyWanted, Scale, Tops
from volumes.dataset.store import Store, default_root
from volumes.errors import Refusal, listed
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.sampling.scanner_noise import refuse_unscannable
from volumes.volume import Volume

_NAMED = 2  # in one line, which stays short

Sides = dict[str, list[Case]]


@dataclass(frozen=True)
class CaseList:
    """The cases of a folder, by side of the split.

    Attributes:
        data: the folder.
        sides: all cases by side, bad ones included: if a scan is repaired later, no other case
            changes its side.
        bad: why a case cannot be used, by its name.
    """

    data: Path
    sides: Sides
    bad: Mapping[str, Refusal] = field(default_factory=dict)

    def refuse(self, terminal: Terminal, *, skip_bad: bool) -> None:
        """Refuses bad cases, or, if they are skipped, a split without training or validation.

        Args:
            terminal: shows every bad case if there are too many for one line.
            skip_bad: whether bad cases are left out instead of refused.

        Raises:
            BadInput: with the bad cases in one line, or if no case for training or validation is
                left.
        """
        for side in ("training", "validation") if skip_bad else ():
            if not self.good()[side]:
                cause = f"has no good case for {side}; bad cases: {len(self.bad)}"
                raise BadInput(self.data, cause, "Repair them, or choose other cases in the split")
        if skip_bad or not self.bad:
            return
        if len(self.bad) == 1:
            raise next(iter(self.bad.values()))
        refusals = list(self.bad.values())
        for refusal in refusals if len(refusals) > _NAMED else ():
            terminal.warn(f"{refusal.path}: {refusal.cause}")
        first, words = refusals[0], f"{len(refusals)} scans cannot be used: "
        remedy = "Repair or remove them"
        if all(refusal.cause == first.cause for refusal in refusals):
            remedy = first.remedy
            words += f"{listed([r.path for r in refusals], most=_NAMED)}: each {first.cause}"
        else:
            words += listed([f"{r.path} {r.cause}" for r in refusals], "; ", _NAMED)
        raise BadInput(self.data, words, f"{remedy}, or leave them out with --skip-bad")

    def good(self) -> Sides:
        """The cases that can be used."""
        return {
            side: [case for case in cases if case.name not in self.bad]
            for side, cases in self.sides.items()
        }

    def scale(self) -> Scale | None:
        """The scale of photographs or of a set of pairs; None for scans."""
        first = next((case for cases in self.good().values() for case in cases), None)
        return None if first is None else first.scale()

    def left_out(self) -> dict[str, dict[str, str]]:
        """Why cases are left out, by side and name, for run.json."""
        return {
            side: {c.name: self.bad[c.name].cause for c in cases if c.name in self.bad}
            for side, cases in self.sides.items()
        }


def list_cases(
    recipe: Recipe, data: Path, trust: ReadOptions = STRICT, tops: Tops = ()
) -> CaseList:
    """The cases of a folder by side of the split. Every header is checked.

    Args:
        recipe: what is trained.
        data: the folder.
        trust: options for reading the scans.
        tops: the tops of grey values by datatype, as the run recorded them.

    Raises:
        BadInput: if there are no cases, grey values do not fit the window, or the split is
            impossible.
    """
    # A scanner needs scans: the window of photographs does not matter.
    window = None if recipe.noise.scanned else recipe.window
    grey = GreyWanted(window, trust.hu, tops)
    cases = find_cases(data, recipe.noise.file, trust=trust, grey=grey)
    bad: dict[str, Refusal] = {}
    for case in cases:
        try:
            case.open()
            if recipe.noise.scanned:
                refuse_unscannable(case)
        except Refusal as refusal:
            bad[case.name] = refusal
    return CaseList(data, recipe.split.assign(data, cases), bad)


def read_cases(
    found: CaseList,
    recipe: Recipe,
    terminal: Terminal,
    check_stop: Callable[[], None],
    *,
    skip_bad: bool,
) -> tuple[dict[str, list[Volume]], CaseList]:
    """Reads every good scan once, to its end.

    The voxels are kept in the store: after bad scans are repaired, the others are not read again.

    Args:
        found: from `list_cases`.
        recipe: what is trained.
        terminal: shows the progress and what is left out.
        check_stop: called after each case. It may raise.
        skip_bad: whether bad cases are left out instead of refused.

    Returns:
        The volumes by side, and the cases, now with those whose voxels are bad.

    Raises:
        BadInput: naming all scans with a bad header or bad voxels.
        CannotWrite: if neither the store nor memory can hold a scan.
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
            check_stop()
    order = sorted(bad)  # by name, not by when they were found
    known = CaseList(found.data, found.sides, {name: bad[name] for name in order})
    known.refuse(terminal, skip_bad=skip_bad)
    for why in known.bad.values():
        terminal.warn(f"{why.path}: {why.cause}: left out")
    for volume in (volume for members in volumes.values() for volume in members):
        terminal.warn_once(volume.odd)
    _refuse_leaks(volumes)
    return volumes, known


def _refuse_leaks(volumes: dict[str, list[Volume]]) -> None:
    """Refuses one file, under two names, on two sides of the split."""
    seen: dict[str, tuple[str, str]] = {}
    for side, members in volumes.items():
        for volume in members:
            other_side, other = seen.setdefault(volume.sha256, (side, volume.case))
            if other_side != side:
                cause = f"is for {side}, and is the same file as {other}, for {other_side}"
                raise BadInput(volume.case, cause, "Remove one of them")
