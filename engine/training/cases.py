"""Cases of a training: the scans of a folder, checked, read and split."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine import runtime
from engine.errors import BadInput
from engine.recipe.recipe import Recipe
from engine.runs.record import RunRecord
from engine.terminal import Terminal
from engine.training.reader_threads import Readers, arrived
from volumes.dataset import Case, Split, find_cases
from volumes.dataset.grey_values import GreyWanted, Scale, Tops
from volumes.dataset.store import Store, default_root
from volumes.dataset.twins import twins
from volumes.errors import LabelMap, Refusal, listed
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.sampling.scanner_noise import refuse_unscannable
from volumes.storage import memory
from volumes.storage.atomic import remove_temporaries
from volumes.volume import Volume

_NAMED = 2  # in one line, which stays short
# Of a scan that is converted: its values as they are scaled, its padding, the array.
_BYTES_A_VOXEL, _MEMORY_SHARE = 16, 0.5
_TOLD_AFTER_S = 5.0
_WHY_ALL = (
    "reading {} scans into {}, once; the training starts after the last one, because damaged scans "
    "and copies of scans are refused before it"
)

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
        """Refuses bad cases, or, if they are skipped, a side of the split that has only such cases.

        A label map is refused even so: it is no scan, and has taken the place of one in the split.

        Args:
            terminal: shows every bad case if there are too many for one line.
            skip_bad: whether bad cases are left out instead of refused.

        Raises:
            BadInput: with all bad cases in one line, or if all cases of a side are bad.
        """
        bad = [why for why in self.bad.values() if not skip_bad or isinstance(why, LabelMap)]
        if len(bad) == 1:
            raise bad[0]
        if bad:
            for refusal in bad if len(bad) > _NAMED else ():
                terminal.warn(f"{refusal.path}: {refusal.cause}")
            raise _refusal(self.data, bad)
        for side, good in self.good().items():
            if self.sides[side] and not good:
                cause = f"has no good case for {side}; bad cases: {len(self.bad)}"
                raise BadInput(self.data, cause, "Repair them, or choose other cases in the split")

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


def _refusal(data: Path, bad: Sequence[Refusal]) -> BadInput:
    """Several bad cases in one line."""
    first, words = bad[0], f"{len(bad)} scans cannot be used: "
    remedy = "Repair or remove them"
    if all(refusal.cause == first.cause for refusal in bad):
        remedy = first.remedy
        words += f"{listed([r.path for r in bad], most=_NAMED)}: each {first.cause}"
    else:
        words += listed([f"{r.path} {r.cause}" for r in bad], "; ", _NAMED)
    if any(isinstance(refusal, LabelMap) for refusal in bad):
        remedy = "Move label maps away, or name them such as case_0_label.nii.gz"
        return BadInput(data, words, remedy)
    return BadInput(data, words, f"{remedy}, or leave them out with --skip-bad")


def list_cases(
    recipe: Recipe, data: Path, terminal: Terminal, trust: ReadOptions = STRICT, tops: Tops = ()
) -> CaseList:
    """The cases of a folder by side of the split. Every header is checked.

    Args:
        recipe: what is trained.
        data: the folder.
        terminal: is told what was read as what, and of a split that leaves few cases to learn from.
        trust: options for reading the scans.
        tops: the tops of grey values by datatype, as the run recorded them.

    Raises:
        BadInput: if there are no cases, grey values do not fit the window, or the split is
            impossible.
    """
    # A scanner needs scans: the window of photographs does not matter.
    window = None if recipe.noise.scanned else recipe.window
    grey = GreyWanted(window, trust.hu, tops)
    cases = find_cases(data, recipe.noise.file, trust=trust, grey=grey, listener=terminal)
    bad: dict[str, Refusal] = {}
    for case in cases:
        try:
            case.open()
            if recipe.noise.scanned:
                refuse_unscannable(case)
        except Refusal as refusal:
            bad[case.name] = refusal
    found = CaseList(data, recipe.split.assign(data, cases), bad)
    _warn_of_few(found, recipe.split, terminal)
    return found


def _warn_of_few(found: CaseList, split: Split, terminal: Terminal) -> None:
    """Warns if numbers in the split set aside more cases than they leave for training."""
    if not isinstance(split.validation, int) or not isinstance(split.test, int):
        return  # cases that are named were chosen
    aside = {side: len(found.sides[side]) for side in ("validation", "test")}
    left = len(found.sides["training"])
    fewer = replace(split, validation=1, test=min(split.test, 1))
    cases = [case for cases in found.sides.values() for case in cases]
    more = len(fewer.assign(found.data, cases)["training"])
    if left < sum(aside.values()) and left < more:
        fields = f"split.validation={fewer.validation} split.test={fewer.test}"
        kept = " and ".join(f"{number} for {side}" for side, number in aside.items() if number)
        terminal.warn(
            f"{found.data}: {left} of {len(cases)} cases are for training, {kept}: {fields} "
            f"leaves {more} for training"
        )


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
    Several scans are read at a time. If several processes read the same scan, one converts it, and
    the others wait for it.

    No training starts before the last scan is read. Which scans are damaged, and which are copies
    of others, is known only then, and so are the cases that the examples are drawn from.

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
    place, told_at = store.root or "memory", time.monotonic() + _TOLD_AFTER_S
    with (
        terminal.progress(f"reading scans into {place}", len(cases)) as bar,
        _readers([case for _, case in cases]) as readers,
    ):
        coming = [
            readers.submit(lambda i: store.volume(cases[i][1], scanned=scanned), i)
            for i in range(len(cases))
        ]
        for done, ((side, case), future) in enumerate(zip(cases, coming, strict=True), 1):
            while not arrived(future):
                check_stop()
                if time.monotonic() > told_at:
                    told_at = math.inf
                    terminal.say(f"{found.data}: {_WHY_ALL.format(len(cases), place)}")
            try:
                volumes[side].append(future.result())
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
    _refuse_leaks(volumes, terminal)
    return volumes, known


@contextmanager
def _readers(cases: Sequence[Case]) -> Iterator[Readers]:
    """Threads that read scans, as many as the processors and the memory allow."""
    largest = max((math.prod(case.open().shape) for case in cases if not case.of_a_set), default=1)
    fit = int(_MEMORY_SHARE * memory.free_bytes()) // (_BYTES_A_VOXEL * largest)
    readers = Readers(max(1, min(runtime.processors(), len(cases), fit)))
    try:
        yield readers
    except BaseException:
        readers.end()
        remove_temporaries()  # of scans that were being written
        raise
    readers.end()


def outline_cases(
    found: CaseList, record: RunRecord, terminal: Terminal, *, compared: Collection[str]
) -> dict[str, list[Volume]]:
    """The good cases by side, without their voxels. Nothing is written.

    Scans of one shape on two sides are read, because they may be one scan in two files.

    Args:
        found: from `list_cases`.
        record: of the run. A pair of a set is taken for the one of its name there.
        terminal: shows the progress.
        compared: hashes that other runs have recorded. If there are any, files with other hashes
            are read: they may hold the voxels of recorded scans.

    Raises:
        BadInput: if a file cannot be read, or one scan is on two sides of the split.
    """
    store = Store(default_root(), terminal.warn, frozen=True)
    known = {name: sha256 for cases in record.cases.values() for name, sha256 in cases.items()}
    volumes: dict[str, list[Volume]] = {side: [] for side in found.sides}
    cases = [(side, case) for side, cases in found.good().items() for case in cases]
    shapes = {case: case.open().shape for _, case in cases if not case.of_a_set}
    sides = {shape: {side for side, case in cases if shapes.get(case) == shape}
             for shape in set(shapes.values())}  # fmt: skip
    with terminal.progress("reading the hashes of scans", len(cases)) as bar:
        for done, (side, case) in enumerate(cases, 1):
            volume = store.outline(case, hashed=bool(compared) and not case.of_a_set)
            alike = case in shapes and len(sides[shapes[case]]) > 1
            if alike or (volume.sha256 and volume.sha256 not in compared):
                with suppress(BadInput):  # damaged voxels are for the training to refuse or skip
                    volume = store.outline(case, hashed=True, voxels=True)
            if not volume.sha256:
                volume = replace(volume, sha256=known.get(case.name, f"unread {case.name}"))
            volumes[side].append(volume)
            bar.at(done, case.name)
    _refuse_leaks(volumes, terminal)
    return volumes


def _refuse_leaks(volumes: dict[str, list[Volume]], terminal: Terminal) -> None:
    """Refuses the voxels of one scan on two sides of the split; warns about twins on one side."""
    pairs = ((side, volume) for side, members in volumes.items() for volume in members)
    for found in twins(pairs):
        if found.side != found.other_side:
            cause = f"is for {found.side}, and has the voxels of {found.other}, "
            cause += f"which is for {found.other_side}"
            raise BadInput(found.case, cause, "Remove one of them")
        cause = f"has the voxels of {found.other}, and counts twice for {found.side}"
        terminal.warn(f"{found.case}: {cause}")
