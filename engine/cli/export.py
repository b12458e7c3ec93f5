"""`engine export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import app
from engine.cli.options import Debug, Overwrite, Quiet, RunCode, Which


@app.command()
def export(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", readable=False,
                             help="A run folder, or the name of a network that ships.")
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="PATH", readable=False,
                       help="A .onnx file, or a folder for a SavedModel."),
    ],
    checkpoint: Which = "best",
    scan: Annotated[
        Path | None,
        typer.Option("--on", readable=False, help="Compare with the engine on the middle of this "
                     "scan. Default: a phantom."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Licence of the weights, for the metadata.")
    ] = None,
    overwrite: Overwrite = False, run_code: RunCode = False,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Write a network as ONNX or SavedModel, for programs that do not have this package.

    The file is compared with the engine. If they differ by more than 0.01 % of
    the window (0.14 HU of 1400 HU), nothing is written.
    """
    from engine.export.export import ExportRequest
    from engine.export.export import export as exported
    from engine.runs.run import named_run
    from engine.terminal import Terminal

    run = named_run(model, run_code)
    request = ExportRequest(run, target, checkpoint, scan, licence, overwrite)
    exported(request, Terminal(quiet=quiet))
