"""Benchmark of denoising: the engine's ways to apply a network, and those of others.

All take turns in one process. The memory of each is measured in a process of its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from engine import runtime
from engine.diagnostics.benchmark import machine, packages, peers
from engine.diagnostics.benchmark.case import Case
from engine.diagnostics.benchmark.rounds import Times, median, ratio, take_turns, timed
from engine.diagnostics.benchmark.stage_times import StageTimes
from engine.diagnostics.benchmark.ways import COMMAND, STAGES, STREAMED, UNTILED, ours
from engine.errors import BadUsage
from engine.networks import UNet3D
from engine.report.markdown import grid
from engine.terminal import Terminal
from volumes.tiles import padded
from volumes.volume import Shape, Unit


def compare(shape: Shape, width: int, rounds: int, terminal: Terminal) -> None:
    """Prints tables in Markdown: the time, memory and exactness of each way, and of the stages.

    Args:
        shape: (Z, Y, X) of the scan.
        width: of the 3D U-Net.
        rounds: number of turns of each way.
        terminal: for the tables.

    Raises:
        BadUsage: if the network cannot be applied to this shape in one piece.
        NumericalFailure: if the network in PyTorch gives other estimates.
    """
    if shape != padded(shape, UNet3D(width).stride):
        stride, given = (",".join(map(str, each)) for each in (UNet3D(width).stride, shape))
        cause = f"takes multiples of {stride}, not {given}"
        raise BadUsage("--shape", cause, "Write such as 32,128,128")
    runtime.start("cpu")
    with tempfile.TemporaryDirectory(prefix="engine-bench-") as name:
        case = Case.written(Path(name), shape, width)
        _compare(case, rounds, terminal)


def _compare(case: Case, rounds: int, terminal: Terminal) -> None:
    ways = ours(case) | peers.peers(case)
    apart: dict[str, float] = {}
    untiled = ways[UNTILED]()
    for name, way in ways.items():
        terminal.say(f"{name} ...")
        apart[name] = case.apart_hu(way(), untiled)
    del apart[COMMAND], untiled  # what a file holds is rounded, and bone is kept
    terminal.say(f"{rounds} rounds ...")
    times, stages = take_turns(ways, rounds), _stages(ways[COMMAND], rounds)
    terminal.say("memory ...")
    peak = {name: _peak_gib(case, name, terminal) for name in ways}
    terminal.result(_title(case, rounds))
    terminal.result("\n" + grid(_rows_of_ways(times, peak, apart)))
    terminal.result("\n" + grid(_rows_of_stages(stages)))
    for line in _notes(case):
        terminal.result(f"\n{line}")


def _stages(command: Callable[[], Unit], rounds: int) -> list[dict[str, float]]:
    """Processor seconds of each stage of the whole command, and of the rest, one a round."""
    found = []
    for _ in range(rounds):
        times = StageTimes(STAGES)
        with times.measuring():
            taken = timed(command)
        seconds = {stage: times.seconds[stage] for stage in STAGES.values()}
        found.append({**seconds, "rest": taken.processor_s - sum(seconds.values())})
    return found


def _title(case: Case, rounds: int) -> str:
    network, shape = case.model.recipe.network, " x ".join(map(str, case.image.shape))
    software = [f"TensorFlow {version('tensorflow')}", *packages.versions(*peers.PACKAGES)]
    return f"{network}, {shape} voxels, {rounds} rounds; {machine.kind()}; {', '.join(software)}"


def _rows_of_ways(
    times: Times, peak: dict[str, str], apart: dict[str, float]
) -> tuple[list[str], list[list[str]]]:
    columns = ["", "s", "processor s", "relative to streamed", "GiB", "HU from untiled"]
    rows = []
    for name, taken in times.items():
        middle = median(taken)
        hu = f"{apart[name]:.2g}" if name in apart else ""
        relative = str(ratio(taken, times[STREAMED])) if name != STREAMED else "1"
        rows.append(
            [name, f"{middle.seconds:.2f}", f"{middle.processor_s:.2f}", relative, peak[name], hu]
        )
    return columns, rows


def _rows_of_stages(stages: list[dict[str, float]]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for name in stages[0]:
        seconds = [found[name] for found in stages]
        shares = [found[name] / sum(found.values()) for found in stages]
        spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
        middle = f"{statistics.median(seconds):.3f}"
        rows.append([name, middle, spread, f"{statistics.median(shares):.1%}"])
    return ["stage of the whole command", "processor s", "in the rounds", "share"], rows


def _notes(case: Case) -> list[str]:
    lines = [
        "Medians; the ratios are those of processor seconds in single rounds, with the smallest "
        "and the largest. GiB: the peak above what the program and the network need before it. The "
        "network never learned: HU show whether a way is exact, not the error of a trained one. "
        "The stages are measured apart from the rounds, by a hook that slows the network."
    ]
    if not packages.missing("torch"):
        apart = peers.disagreement(case)
        lines.append(f"The network in PyTorch differs by {apart:.1e} of the window on a crop.")
    if gone := packages.missing(*peers.PACKAGES):
        lines.append(f"Not compared, because it is not installed: {', '.join(gone)}.")
    return lines


def _peak_gib(case: Case, name: str, terminal: Terminal) -> str:
    command = [sys.executable, "-m", "engine.diagnostics.benchmark.denoise", str(case.folder), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        terminal.warn(f"{name}: its memory was not measured: {last}")
        return ""
    found = json.loads(done.stdout.splitlines()[-1])
    return "" if found is None else f"{found / 2**30:.2f}"


def _peak_bytes(folder: Path, name: str) -> int | None:
    """The memory that a way needs beyond what its process has before."""
    case = Case(folder)
    ways = ours(case)
    way = ways[name] if name in ways else peers.peers(case)[name]
    before = machine.resident_bytes()
    way()
    peak = machine.peak_bytes()
    return None if before is None or peak is None else peak - before


if __name__ == "__main__":
    print(json.dumps(_peak_bytes(Path(sys.argv[1]), sys.argv[2])))
