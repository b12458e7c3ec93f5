"""Benchmark of the feed: crops of scans of several depths, against a plain copy and other programs.

All ways take turns in one process. Processor time is that of all its threads.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from engine import runtime
from engine.diagnostics.benchmark import machine, packages
from engine.diagnostics.benchmark.feed_cases import CROP, FeedCases
from engine.diagnostics.benchmark.feed_ways import COPY, OURS, PACKAGES, ours, ways
from engine.diagnostics.benchmark.rounds import Taken, Times, median, ratio, take_turns, timed
from engine.report.markdown import grid
from engine.terminal import Terminal
from volumes import Crop

_COLD, _COLD_CROPS = f"{OURS}, from the disk", 24


class _Found(NamedTuple):
    """What was measured at one depth.

    Attributes:
        times: of one crop, by way and round.
        conversion: of the scans into arrays of the store.
        megabytes: of these arrays.
    """

    times: Times
    conversion: Taken
    megabytes: float


def compare(
    depths: Sequence[int], rounds: int, terminal: Terminal, plane: int = 512, crop: Crop = CROP
) -> None:
    """Prints tables in Markdown: the time of a crop, and how it compares with a plain copy.

    Args:
        depths: slices of the scans.
        rounds: number of turns of each way.
        terminal: for the tables.
        plane: pixels of a slice along Y and X.
        crop: what is cut from the scans.
    """
    runtime.start("cpu")
    found = {}
    for depth in depths:
        with tempfile.TemporaryDirectory(prefix="engine-bench-") as name:
            found[depth] = _measured(FeedCases(Path(name), depth, crop), rounds, plane, terminal)
    software = [f"TensorFlow {version('tensorflow')}", *packages.versions(*PACKAGES)]
    terminal.result(f"{crop}, {rounds} rounds; {machine.kind()}; {', '.join(software)}")
    for title, cell in (
        ("processor ms a crop", lambda taken, _: f"{1000 * median(taken).processor_s:.2f}"),
        ("relative to the copy", lambda taken, copy: str(ratio(taken, copy))),
        ("crops / s", lambda taken, _: f"{1 / median(taken).seconds:.3g}"),
    ):
        terminal.result("\n" + grid(_table(found, title, cell)))
    for line in _notes(found):
        terminal.result(f"\n{line}")


def _measured(cases: FeedCases, rounds: int, plane: int, terminal: Terminal) -> _Found:
    terminal.say(f"scans of {cases.depth} slices ...")
    cases.write(plane)
    conversion = timed(cases.convert)
    megabytes = sum(volume.hu.nbytes for volume in cases.volumes) / 1e6
    with ExitStack() as stack:
        compared = ways(cases, stack)
        for name, way in compared.items():
            terminal.say(f"{name} ...")
            way.turn()
        terminal.say(f"{rounds} rounds ...")
        times = take_turns({name: way.turn for name, way in compared.items()}, rounds)
    crops = {name: way.crops for name, way in compared.items()}
    del compared, way, stack  # they hold what is to be dropped from the memory
    if hasattr(os, "posix_fadvise"):
        times[_COLD], crops[_COLD] = [], _COLD_CROPS
        for _ in range(rounds):
            cases.forget()
            with ExitStack() as stack:
                times[_COLD].append(timed(ours(cases, _COLD_CROPS, stack, flips=True)))
    return _Found(
        {
            name: [Taken(one.seconds / crops[name], one.processor_s / crops[name]) for one in taken]
            for name, taken in times.items()
        },
        conversion,
        megabytes,
    )


def _table(
    found: Mapping[int, _Found], title: str, cell: Callable[[list[Taken], list[Taken]], str]
) -> tuple[list[str], list[list[str]]]:
    columns = [title, *(f"{depth} slices" for depth in found)]
    names = list(next(iter(found.values())).times)
    return columns, [
        [name, *(cell(one.times[name], one.times[COPY]) for one in found.values())]
        for name in names
    ]


def _notes(found: Mapping[int, _Found]) -> list[str]:
    converted = [
        f"{one.megabytes / one.conversion.processor_s:.0f} MB at {depth} slices"
        for depth, one in found.items()
    ]
    lines = [
        "Medians; ratios are those of processor time in single rounds, with the smallest and the "
        "largest. The plain copy writes the voxels of the same crops into one buffer; where a "
        "volume is shallower than the crop, its reflection was added before. The others deliver "
        "four crops for each scan that they load, without worker processes.",
        f"Scans are converted once, in a second of processor time: {', '.join(converted)}.",
    ]
    if gone := packages.missing(*PACKAGES):
        lines.append(f"Not compared, because it is not installed: {', '.join(gone)}.")
    return lines
