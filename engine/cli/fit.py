"""`engine fit`."""

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
    MaxGib,
    Quiet,
    RunCode,
    TrainingPrecision,
    Verbose,
    WhichVolume,
    Xla,
    data_folder,
    read_options,
)


@app.command(
    epilog="Recipes are Python programs: fitting one runs its code. Naming a run folder runs none, "
    "unless the run needs code that it keeps, and --run-code is given. "
    "FIELD=VALUE overrides any field, such as crop.shape=16,64,64 network.width=8. "
    "A run resumes with its own recipe and overrides: they need not be repeated. More steps and "
    "other steps to validate and save at are accepted. Another network is refused. Any other "
    "change needs --accept-changes.",
)
def fit(
    recipe: Annotated[
        str | None,
        typer.Argument(help="Path of a recipe, name of one that ships, or a run folder to resume. "
                       "Default: the recipe of the run in --run, else respr_unet3d.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...")] = None,
    data: Data = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", readable=False,
                     help="Run folder; resumed if it contains a run of this recipe. "
                     "Default: runs/<recipe's name>."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", readable=False,
                     help="Start from the weights of another run.")
    ] = None,
    start_checkpoint: Annotated[
        str | None,
        typer.Option("--from-checkpoint", help="Of RUN: best, last or a step. Default: best.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Total steps, including finished ones.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start from step 0; an existing run is moved aside.")
    ] = False,
    accept_changes: Annotated[
        bool,
        typer.Option("--accept-changes", help="Resume with changed values or cases; "
                     "run.json records them and the step.")
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Skip scans that cannot be used; run.json lists them.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Phantoms, a small network, a few minutes.")
    ] = False,
    devices: Annotated[
        str, typer.Option("--devices", help="auto, cpu, gpu, gpu:0,1, or cpu:2 (two logical ones).")
    ] = "auto",
    precision: TrainingPrecision = "auto", xla: Xla = "auto",
    cache: Annotated[
        str, typer.Option("--cache", help="Where the scans are held: disk (mapped into memory), or "
                          "device, which then cuts the crops.")
    ] = "disk",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of weights, crops and noise.")
    ] = None,
    histograms: Annotated[
        int | None, typer.Option("--histograms", metavar="N", min=1, help="Show histograms of "
                                 "weights and gradients in TensorBoard, every N steps.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="A:B", help="Profile the steps A to B, for "
                                 "TensorBoard's profiler.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and the cost of a step.")
    ] = False,
    time: Annotated[
        bool, typer.Option("--time", help="With --dry-run: measure a few steps.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: print JSON, every field resolved.")
    ] = False,
    run_code: RunCode = False,
    assume_hu: AssumeHu = False, allow_bad_crc: BadCrc = False, max_gib: MaxGib = 4.0,
    volume: WhichVolume = None, axes: Axes = None,
    quiet: Quiet = False, verbose: Verbose = False, debug: Debug = False,
    *, context: typer.Context,
) -> None:  # fmt: skip
    """Train RECIPE, or resume the training in its run folder."""
    from engine.diagnostics.demo import fit_demo
    from engine.terminal import Terminal
    from engine.training.fit import fit as train
    from engine.training.fit_request import FitRequest
    from engine.training.observation import Observation, profiled_steps
    from engine.training.signals import interruptible

    stop = context.with_resource(interruptible())
    changes = list(overrides or ())
    if recipe and "=" in recipe and not Path(recipe).exists():  # the recipe was left out
        changes = [recipe, *changes]
        recipe = None
    changes += [f"steps={steps}"] if steps is not None else []
    changes += [f"seed={seed}"] if seed is not None else []
    request = FitRequest(
        recipe=recipe, overrides=tuple(changes), run=run, start=start,
        data=data_folder(data),
        start_checkpoint=start_checkpoint, fresh=fresh, accept_changes=accept_changes,
        skip_bad=skip_bad, dry_run=dry_run, time=time, json=json,
        devices=devices, precision=precision, xla=xla, cache=cache, run_code=run_code,
        observation=Observation(histograms, profiled_steps(profile) if profile else None),
        reading=read_options(assume_hu, allow_bad_crc, max_gib, volume, axes),
    )  # fmt: skip
    terminal = Terminal(quiet=quiet, verbose=verbose)
    if demo:
        fit_demo(request, terminal, stop, own_data=data is not None)
    elif trained := train(request, terminal, stop):
        terminal.result(str(trained.folder))
