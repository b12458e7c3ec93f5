"""`engine denoise` and `engine verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import app
from engine.cli.options import (
    AssumeHu,
    Axes,
    BadCrc,
    Debug,
    Devices,
    MaxGib,
    Output,
    Overwrite,
    Precision,
    Quiet,
    RunCode,
    Verbose,
    Which,
    WhichVolume,
    Xla,
    read_options,
    shape,
)


@app.command()
def denoise(
    volumes: Annotated[
        list[Path], typer.Argument(help="NIfTI scans, folders of cases, or DICOM "
                             "series (a folder).", readable=False)
    ],
    model: Annotated[
        Path | None,
        typer.Option("-m", "--model", readable=False,
                     help="A run folder, ct_denoiser, gaussian_denoiser or respr_denoiser. "
                     "Default: one of the first two, by the noise of each scan."),
    ] = None,
    output: Output = None,
    prior: Annotated[
        Path | None, typer.Option("--prior", readable=False,
                     help="A second scan, on the same grid, as the prior.")
    ] = None,
    checkpoint: Which = "best",
    tile: Annotated[
        str | None, typer.Option("--tile", metavar="Z,Y,X", help="Size of a tile without the "
                                 "overlap with its neighbours.")
    ] = None,
    save_residual: Annotated[
        bool, typer.Option("--save-residual", help="Also write input - output.")
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option("--preview", metavar="PNG", help="Draw the middle planes into a PNG. With "
                     "several scans, preview.png draws CASE_preview.png beside each output, and a "
                     "folder takes CASE.png.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="HTML", help="Write a page with a viewer: slices, windows, "
                     "curtain, residual. It needs no network. Names of several as for --preview.")
    ] = None,
    strength: Annotated[
        float, typer.Option("--strength", help="0 returns the input, 1 is the "
                            "network's estimate; up to 1.5 removes more than the network does.")
    ] = 1.0,
    poses: Annotated[
        bool, typer.Option("--poses", help="Average the estimates of the turned and mirrored "
                           "slices: less noise, up to 8 times as long.")
    ] = False,
    photons: Annotated[
        float | None,
        typer.Option("--photons", help="Dose of the scan in photons a ray, for "
                     "a dose-aware network."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show tiles and memory.")] = False,
    timed: Annotated[
        bool, typer.Option("--time", help="With --plan: measure a few slabs, and show the expected "
                           "time on this machine.")
    ] = False,
    reproducible: Annotated[
        bool, typer.Option("--reproducible", help="Leave time and machine out of the sidecar, and "
                           "use the same tiles on every machine.")
    ] = False,
    strip_phi: Annotated[
        bool, typer.Option("--strip-phi", help="Clear free text and extensions of the header, "
                           "which may contain names and dates.")
    ] = False,
    devices: Devices = "auto", precision: Precision = "auto", xla: Xla = "auto",
    overwrite: Overwrite = False, run_code: RunCode = False,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="K/N", help="Denoise the K-th of N equal parts "
                         "of the scans, such as 3/16.")
    ] = None,
    assume_hu: AssumeHu = False, allow_bad_crc: BadCrc = False, max_gib: MaxGib = 4.0,
    volume: WhichVolume = None, axes: Axes = None,
    quiet: Quiet = False, verbose: Verbose = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Write VOLUME_denoised.nii.gz beside each VOLUME: same header, less noise.

    A folder of cases stands for all its scans: CASE/imaging.nii.gz, or NIfTI files. Files that this
    program made, and masks, are no cases. In the folder of -o, each output has its case's name.

    A command with several scans can be given again after it was killed: what it finished is kept.

    Research use, not a medical device.
    """
    from engine.denoising.denoise import DenoiseSettings
    from engine.denoising.denoise_request import DenoiseRequest
    from engine.denoising.denoise_scans import denoise_scans
    from engine.denoising.shard import Shard
    from engine.errors import BadUsage
    from engine.runs.run import named_run
    from engine.terminal import Terminal

    if timed and not plan:
        raise BadUsage("--time", "has no effect without --plan", "Add --plan, or leave it out")
    terminal = Terminal(quiet=quiet, verbose=verbose)
    reading = read_options(assume_hu, allow_bad_crc, max_gib, volume, axes)
    run = None if model is None else named_run(model, run_code)
    request = DenoiseRequest(
        scans=tuple(volumes), run=run, checkpoint=checkpoint,
        settings=DenoiseSettings(
            prior, shape(tile, "--tile") if tile else None, strength, photons, reproducible,
            strip_phi, poses=poses,
        ),
        output=output, preview=preview, page=html, residual=save_residual, overwrite=overwrite,
        only_plan=plan, timed=timed, shard=None if shard is None else Shard.parse(shard),
        devices=devices, precision=precision, xla=xla, reading=reading,
    )  # fmt: skip
    denoise_scans(request, terminal)


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="VOLUME_denoised.nii.gz")],
    model: Annotated[
        Path | None, typer.Option("-m", "--model", readable=False,
                     help="The run folder of its model.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--input", readable=False,
                     help="The scan that was denoised. Default: VOLUME beside the "
                     "output, if it exists."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Apply the model again and compare every voxel; "
                           "takes as long as denoising.")
    ] = False,
    prior: Annotated[
        Path | None, typer.Option("--prior", readable=False,
                     help="For --again: the second scan, if one was used.")
    ] = None,
    devices: Devices = "auto", run_code: RunCode = False,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Check a denoised scan against its sidecar, its input and its model.

    Exit code 3 if a file does not match the sidecar, 5 if the model is another.
    """
    from engine import runtime
    from engine.denoising.rerun import Repetition
    from engine.denoising.verify import verify as checked
    from engine.errors import BadUsage
    from engine.runs.run import named_run
    from engine.terminal import Terminal

    runtime.check(devices, "auto", "auto")
    if prior is not None and not again:
        raise BadUsage("--prior", "has no effect without --again", "Add --again, or leave it out")
    repetition = Repetition(prior, devices, Terminal(quiet=quiet)) if again else None
    for line in checked(path, named_run(model, run_code) if model else None, source, repetition):
        print(line, flush=True)
