"""The request of `engine denoise`: what its options say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from engine.denoising.denoise import DenoiseSettings
from engine.denoising.shard import Shard
from engine.runs.run import Run
from volumes.nifti.read_options import STRICT, ReadOptions


@dataclass(frozen=True)
class DenoiseRequest:
    """The arguments of `engine denoise`, also for the Python API.

    Attributes:
        scans: NIfTI files, or folders of cases.
        run: run folder of the network; None chooses a network that ships for each scan, by its
            noise.
        checkpoint: of the run: best, last or a step.
        settings: how the network is applied.
        output: a file for one scan, else a folder; None writes beside each scan.
        preview: picture of the middle planes, see `engine.denoising.preview_paths`.
        page: HTML page with a viewer, likewise.
        residual: whether input - output is written as well.
        overwrite: whether existing files are replaced.
        only_plan: whether only tiles and memory are shown.
        timed: whether the plan also shows the expected time.
        shard: part of the scans that is denoised; None is all of them.
        devices: to compute on; the first of several.
        precision: of the layers between the network's input and output.
        xla: whether XLA compiles the network: auto, on or off.
        reading: options for reading scans.
    """

    scans: tuple[Path, ...]
    run: Run | None = None
    checkpoint: str = "best"
    settings: DenoiseSettings = field(default_factory=DenoiseSettings)
    output: Path | None = None
    preview: Path | None = None
    page: Path | None = None
    residual: bool = False
    overwrite: bool = False
    only_plan: bool = False
    timed: bool = False
    shard: Shard | None = None
    devices: str = "auto"
    precision: str = "auto"
    xla: str = "auto"
    reading: ReadOptions = STRICT
