"""`engine degrade`, `engine phantom` and `engine import`: data and weights for other commands."""

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
    Quiet,
    RunCode,
    Seed,
    Which,
    WhichVolume,
    read_options,
)
from engine.cli.options import shape as three


@app.command()
def degrade(
    volumes: Annotated[
        list[Path], typer.Argument(help="NIfTI scans, or folders of cases.", readable=False)
    ],
    kinds: Annotated[
        str,
        typer.Option("--as", metavar="KIND:VALUE[,...]", help="gaussian:SIGMA, a fraction of the "
                     "window [-1000, 400] HU; coloured:SIGMA or coloured:SIGMA/EXPONENT/CUTOFF, "
                     "the noise of a kernel; low_dose:PHOTONS a ray; sparse_view:VIEWS of 900. "
                     "Several: low_dose:7e4,1e5,sparse_view:60,90."),
    ],
    seed: Seed = 0,
    output: Output = None,
    devices: Devices = "auto",
    overwrite: Overwrite = False,
    assume_hu: AssumeHu = False, allow_bad_crc: BadCrc = False, max_gib: MaxGib = 4.0,
    volume: WhichVolume = None, axes: Axes = None,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Write a copy of each VOLUME with simulated noise or fewer views, and the same header.

    Several kinds, or a folder of cases, are written as a folder of cases: OUT/<case>/imaging.nii.gz
    is the clean reference, with <kind>.nii.gz beside it. Finished files are kept.
    """
    from engine.simulation.degradation import parse
    from engine.simulation.degrade import DegradeRequest, degrade_scans
    from engine.terminal import Terminal

    reading = read_options(assume_hu, allow_bad_crc, max_gib, volume, axes)
    request = DegradeRequest(
        tuple(volumes), parse(kinds), seed, output, overwrite, devices, reading
    )
    degrade_scans(request, Terminal(quiet=quiet))


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for case_00000/...")],
    cases: Annotated[int, typer.Option("--cases", min=1, help="Number of cases.")] = 8,
    shape: Annotated[str, typer.Option("--shape", metavar="Z,Y,X")] = "48,256,256",
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Write synthetic abdomens in KiTS19's layout."""
    from engine.diagnostics.demo import write_phantoms
    from engine.output_paths import refuse_file_name

    refuse_file_name(folder, "phantom")
    for path in write_phantoms(folder, cases, three(shape, "--shape"), seed):
        print(path)


@app.command(name="import")
def import_weights(
    weights: Annotated[
        Path,
        typer.Argument(metavar="WEIGHTS", readable=False, help="Keras weights (.h5), or a run."),
    ],
    run: Annotated[Path, typer.Option("--run", readable=False, help="The run folder to make.")],
    network: Annotated[
        str | None,
        typer.Option("--network", help="The recipe with the network of the Keras weights, such as "
                     "unet2d. Not needed for a run."),
    ] = None,
    checkpoint: Which = "best",
    half: Annotated[
        bool,
        typer.Option("--half", help="Of a run: store the weights in float16, in half the space. "
                     "Evaluate both."),
    ] = False,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...")] = None,
    run_code: RunCode = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Make a run folder from Keras weights, or from a run without its optimizer state.

    No code in a file of Keras weights is executed.
    """
    from engine.errors import BadUsage
    from engine.output_paths import refuse_file_name
    from engine.recipe.overrides import override
    from engine.recipe.recipe_file import find_recipe, load_recipe
    from engine.runs import keras_import, weights_import
    from engine.runs.run import Run
    from engine.runs.training_run import TrainingRun
    from engine.terminal import Terminal

    refuse_file_name(run, "--run")
    if weights.is_dir() and network is None:
        if overrides:
            raise BadUsage(overrides[0], "would change the recipe of the run", "Leave it out")
        weights_import.import_run(Run(weights, run_code), checkpoint, TrainingRun(run), half=half)
    else:
        if half:
            raise BadUsage("--half", "belongs to the import of a run", "Leave it out")
        if network is None:
            raise BadUsage(
                "--network", "is missing", "Name the recipe with the network of these weights"
            )
        source = find_recipe(network)
        resolved = override(load_recipe(source), overrides or ())
        keras_import.import_run(weights, resolved, source, TrainingRun(run))
    Terminal().result(str(run))
