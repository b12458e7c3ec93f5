"""Plans in words: how scans would be cut, the memory, and the expected time."""

from __future__ import annotations

from engine.denoising.batch import scans_in_words
from engine.denoising.denoise import DenoiseSettings, plan_for
from engine.denoising.expected_time import Pace, in_words
from engine.denoising.shared_memory import SharedMemory, volume_bytes
from engine.inference.predictor import Predictor
from engine.runs.trained_model import Model
from engine.terminal import Terminal
from volumes.nifti import Scan


def show_plans(
    scans: list[Scan], model: Model, settings: DenoiseSettings, terminal: Terminal, *,
    predictor: Predictor | None = None, residual: bool = False,
) -> None:  # fmt: skip
    """Shows tiles and memory of each scan.

    Args:
        scans: with checked headers.
        model: whose network would be applied.
        settings: how.
        terminal: shows them.
        predictor: is timed, to show the expected time; None shows none.
        residual: whether residuals would be written.
    """
    pace = Pace.of(scans[0], model, predictor, settings) if scans and predictor else None
    for scan in scans:
        expected = f"; about {in_words(pace.seconds([scan]))}" if pace else ""
        terminal.result(plan_in_words(scan, model, settings) + expected)
    if len(scans) > 1:
        each = dict(enumerate([scan] for scan in scans))
        terminal.say(SharedMemory(each, model, settings, residual=residual).in_words())
    if pace:
        words = f"{in_words(pace.seconds(scans))} on this machine, without writing"
        terminal.result(f"{scans_in_words(len(scans))}: about {words}")


def plan_in_words(scan: Scan, model: Model, settings: DenoiseSettings) -> str:
    """The tiles of a scan and their memory."""
    plan = plan_for(scan, model.recipe, settings)
    return (
        f"{scan.path}: {' x '.join(map(str, scan.shape))} voxels, {plan}; "
        f"memory about {plan.bytes / 2**30:.2f} GiB for the network and "
        f"{volume_bytes(scan) / 2**30:.2f} GiB for the scan"
    )
