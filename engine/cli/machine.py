"""`engine info`, `engine bench` and `engine doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import app
from engine.cli.options import (
    Axes,
    BadCrc,
    Debug,
    Devices,
    MaxGib,
    Quiet,
    WhichVolume,
    read_options,
)


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A scan, a denoised scan, a run folder or a "
                              "folder of scans.")],
    allow_bad_crc: BadCrc = False, max_gib: MaxGib = 4.0, volume: WhichVolume = None,
    axes: Axes = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Describe a scan, a run or a folder of scans.

    A run includes the fingerprint of its last checkpoint.
    """
    from engine.diagnostics.info import about

    rows = about(path, read_options(False, allow_bad_crc, max_gib, volume, axes))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


@app.command()
def bench(
    steps: Annotated[int, typer.Option("--steps", min=3, help="Steps a round.")] = 10,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Number of rounds; medians are compared.")
    ] = 5,
    debug: Debug = False,
) -> None:
    """Compare the training step with keras.Model.fit on this machine, in one run."""
    from engine.diagnostics.bench import compare
    from engine.terminal import Terminal

    compare(steps, rounds, Terminal())


@app.command()
def doctor(
    devices: Devices = "auto",
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Check in a minute that this machine trains, denoises, resumes and refuses damaged scans.

    Exit code 0 if all checks pass, else 1.
    """
    from engine.diagnostics.doctor import examine
    from engine.terminal import Terminal

    if not examine(devices, Terminal(quiet=quiet)):
        raise typer.Exit(1)
