"""`engine evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import app
from engine.cli.options import (
    AssumeHu,
    Axes,
    BadCrc,
    Data,
    Debug,
    Devices,
    MaxGib,
    Overwrite,
    Quiet,
    RunCode,
    Which,
    WhichVolume,
    data_folder,
    read_options,
)


@app.command()
def evaluate(
    methods: Annotated[
        list[str],
        typer.Argument(metavar="METHOD...", help="Run folders; ct_denoiser, gaussian_denoiser "
                       "and respr_denoiser, which ship; noisy, prior, tv, nlm, bm3d, bm4d, spade. "
                       "METHOD@PRIOR sets its prior: mean, noisy, tv, clean, turned or a run "
                       "folder; :RADIUS averages neighbouring slices. NETWORK+poses and "
                       "NETWORK+strength=0.8 apply options of denoise."),
    ],
    data: Data = None,
    split: Annotated[str, typer.Option("--split", help="test, validation or all.")] = "test",
    noise: Annotated[
        str | None,
        typer.Option("--noise", help="gaussian:0.1, or several levels: gaussian:0.02,0.1; "
                     "coloured:0.05 or coloured:SIGMA/EXPONENT/CUTOFF; recorded:NAME. "
                     "Default without --as: gaussian:0.1."),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option("--as", metavar="KIND:VALUE[,...]", help="Simulated scanners, as in degrade: "
                     "low_dose:7e4,1e5,2e5,sparse_view:60,90,180."),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the report.")
    ] = Path("report"),
    protocol: Annotated[
        str, typer.Option("--protocol", help="volumes, or reference: the first slice of a central "
                          "crop, as Abascal et al. score.")
    ] = "volumes",
    slices: Annotated[
        int | None, typer.Option("--slices", min=1, help="Score this many middle slices.")
    ] = None,
    checkpoint: Which = "best",
    tuning: Annotated[
        bool, typer.Option("--tuning/--no-tuning", help="Tune the parameters of classical "
                           "methods on validation cases, or keep their defaults.")
    ] = True,
    tune_on_scored: Annotated[
        bool, typer.Option("--tune-on-scored", help="Tune them on the scored cases, with the "
                           "clean image known: the best that they can give.")
    ] = False,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Also score cases that a network was trained on.")
    ] = False,
    devices: Devices = "auto",
    overwrite: Overwrite = False, run_code: RunCode = False,
    assume_hu: AssumeHu = False, allow_bad_crc: BadCrc = False, max_gib: MaxGib = 4.0,
    volume: WhichVolume = None, axes: Axes = None,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Compare METHODs on the same cases with the same noise: tables, figures, CSV, JSON."""
    from engine.comparison.evaluate import evaluate, show
    from engine.comparison.evaluate_request import EvaluateRequest
    from engine.errors import BadUsage
    from engine.terminal import Terminal

    if tune_on_scored and not tuning:
        cause, remedy = "contradicts --no-tuning", "Leave out one of the two"
        raise BadUsage("--tune-on-scored", cause, remedy)
    tuned_on = "scored" if tune_on_scored else "validation" if tuning else "none"
    request = EvaluateRequest(
        methods=tuple(methods), data=data_folder(data),
        output=output,
        split=split, noise=noise, kinds=kinds, protocol=protocol, slices=slices,
        checkpoint=checkpoint, tuning=tuned_on, allow_seen=allow_seen, devices=devices,
        overwrite=overwrite, run_code=run_code,
        reading=read_options(assume_hu, allow_bad_crc, max_gib, volume, axes),
    )  # fmt: skip
    terminal = Terminal(quiet=quiet)
    show(evaluate(request, terminal), terminal)
