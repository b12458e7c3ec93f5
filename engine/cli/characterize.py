"""`engine characterize`."""

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
    Overwrite,
    Quiet,
    RunCode,
    Seed,
    Which,
    WhichVolume,
    read_options,
)


@app.command()
def characterize(
    methods: Annotated[
        list[str],
        typer.Argument(metavar="METHOD...", help="Run folders, and tv, nlm, bm3d and others, as in "
                       "evaluate. The reconstruction is always measured, too."),
    ],
    dose: Annotated[
        str, typer.Option("--dose", metavar="PHOTONS[,...]", help="Photons a ray. The highest is "
                          "the full dose.")
    ] = "1e5,2e5,1e6",
    realisations: Annotated[
        int, typer.Option("--realisations", help="Scans of every module at every dose: at "
                          "least 16, 20 for a quick look, 200 for a statement.")
    ] = 200,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the report.")
    ] = Path("characteristics"),
    phantom: Annotated[
        str, typer.Option("--phantom", help="catphan (CTP404, CCT189) or acr (modules 1 to 3).")
    ] = "catphan",
    scan: Annotated[
        Path | None, typer.Option("--scan", readable=False, help="Also set lesions into a slice "
                                  "of this scan.")
    ] = None,
    slice_: Annotated[
        int | None, typer.Option("--slice", help="Slice of the scan. Default: the middle one.")
    ] = None,
    beam: Annotated[str, typer.Option("--beam", help="fan or parallel.")] = "fan",
    window: Annotated[
        str, typer.Option("--filter", help="ram-lak, shepp-logan, cosine or hann.")
    ] = "ram-lak",
    pixel: Annotated[
        float, typer.Option("--pixel", metavar="MM", help="Width of the phantom's pixels.")
    ] = 0.7,
    seed: Seed = 0,
    checkpoint: Which = "best",
    devices: Devices = "auto",
    overwrite: Overwrite = False, run_code: RunCode = False,
    assume_hu: AssumeHu = False, allow_bad_crc: BadCrc = False, max_gib: MaxGib = 4.0,
    volume: WhichVolume = None, axes: Axes = None,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Measure noise, resolution, HU and detectability of METHODs on simulated phantoms."""
    from engine.characterization.characterize import (
        CharacterizeRequest,
        characterize,
        parse_doses,
    )
    from engine.terminal import Terminal

    request = CharacterizeRequest(
        methods=tuple(methods), output=output, doses=parse_doses(dose),
        realisations=realisations, phantom=phantom, beam=beam, filter=window, pixel_mm=pixel,
        scan=scan, slice=slice_, seed=seed, checkpoint=checkpoint, devices=devices,
        overwrite=overwrite, run_code=run_code,
        reading=read_options(assume_hu, allow_bad_crc, max_gib, volume, axes),
    )  # fmt: skip
    characterize(request, Terminal(quiet=quiet))
