"""The request of `engine evaluate`: what its options say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from volumes.nifti.read_options import STRICT, ReadOptions

TUNING = ("validation", "scored", "none")  # what classical methods can be tuned on


@dataclass(frozen=True)
class EvaluateRequest:
    """The arguments of `engine evaluate`, also for the Python API.

    Attributes:
        methods: run folders and names of methods, each with an optional @PRIOR.
        data: folder of the cases, or a file of pairs.
        output: folder of the report; None writes none.
        split: "test", "validation" or "all".
        noise: levels of added or recorded noise, such as "gaussian:0.02,0.1".
        kinds: levels of a simulated scanner, such as "low_dose:1e5".
        protocol: "volumes", or "reference": the first slice of a central crop.
        slices: number of scored slices about the middle of each case; None for all.
        checkpoint: of each run: best, last or a step.
        tuning: what classical methods are tuned on: "validation" cases, the "scored" cases
            themselves, whose truth is then known to them, or "none".
        allow_seen: whether cases that a network was trained on may be scored.
        devices: to compute on.
        overwrite: whether an existing report is replaced.
        reading: options for reading scans.
        run_code: run code that the runs keep, see `engine.runs.kept_code`.
    """

    methods: tuple[str, ...]
    data: Path
    output: Path | None = None
    split: str = "test"
    noise: str | None = None
    kinds: str | None = None
    protocol: str = "volumes"
    slices: int | None = None
    checkpoint: str = "best"
    tuning: str = "validation"
    allow_seen: bool = False
    devices: str = "auto"
    overwrite: bool = False
    reading: ReadOptions = STRICT
    run_code: bool = False
