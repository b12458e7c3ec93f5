"""`engine fit`: words in, a training out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import app
from engine.cli.options import (
    AssumeHu,
    BadCrc,
    Data,
    Debug,
    MaxGib,
    Quiet,
    Verbose,
    WhichVolume,
)


@app.command(
    epilog="Recipes are Python programs: fitting one runs its code. "
    "FIELD=VALUE overrides any field, such as crop.shape=16,64,64 network.width=8. "
    "A run goes on with the recipe that it was begun with: more steps, and other steps to validate "
    "and save at, are taken as they are; another network is refused; all else is refused unless "
    "--accept-changes is given.",
)
def fit(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's path, or the name of one that ships.")
    ] = "respr_unet3d",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...")] = None,
    data: Data = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", readable=False,
                     help="Run folder, resumed where it holds a run of this recipe. "
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
        int | None, typer.Option("--steps", min=1, help="Total steps, those done included.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew; an existing run is moved aside.")
    ] = False,
    accept_changes: Annotated[
        bool,
        typer.Option("--accept-changes", help="Go on with other values than the run was begun "
                     "with, or other cases; run.json notes which, and from which step.")
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out scans that cannot be used; run.json notes them.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Phantoms, a small network, a few minutes.")
    ] = False,
    devices: Annotated[
        str, typer.Option("--devices", help="auto, cpu, gpu, gpu:0,1, or cpu:2 (two logical ones).")
    ] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="auto, float32, bfloat16 or float16.")
    ] = "auto",
    xla: Annotated[
        str, typer.Option("--xla", help="auto (on a GPU), on or off.")
    ] = "auto",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of weights, crops and noise.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done.")
    ] = False,
    assume_hu: AssumeHu = False, allow_bad_crc: BadCrc = False, max_gib: MaxGib = 4.0,
    volume: WhichVolume = None,
    quiet: Quiet = False, verbose: Verbose = False, debug: Debug = False,
    *, context: typer.Context,
) -> None:  # fmt: skip
    """Train RECIPE, or go on with the training that its run folder holds."""
    from engine import runtime
    from engine.diagnostics import demo as demo_data
    from engine.errors import BadUsage
    from engine.recipe.overrides import override
    from engine.recipe.recipe_file import find, foreign, load
    from engine.recipe.serialization import to_json
    from engine.runs import initial_weights, prior_network
    from engine.runs.run import Run
    from engine.terminal import Terminal
    from engine.training.cases import survey
    from engine.training.fit import Consent, Machine, describe
    from engine.training.fit import fit as train
    from engine.training.signals import interruptible
    from volumes.dataset.cases import unused
    from volumes.nifti.read_options import Trust

    stop = context.with_resource(interruptible())
    terminal = Terminal(quiet=quiet, verbose=verbose)
    if start_checkpoint is not None and start is None:
        raise BadUsage("--from-checkpoint", "chooses from no run", "Name the run by --from")
    source = find(recipe)
    if not quiet and foreign(source):
        terminal.say(f"Running the Python code of {source}")
    changes = [*(demo_data.SMALL if demo else ()), *(overrides or ())]
    changes += [f"steps={steps}"] if steps is not None else []
    changes += [f"seed={seed}"] if seed is not None else []
    resolved = override(load(source), changes)
    folder = Run(run or Path("runs") / (source.stem + ("-demo" if demo else "")))
    begin = None
    if start is not None:
        begin = initial_weights.find(Run(start), start_checkpoint or "best", resolved, folder)
    if demo and not resolved.noise.additive:
        cause = f"shows additive noise, and {source.stem} has another"
        raise BadUsage("--demo", cause, "Choose another recipe, or leave it out")
    if data is None:
        data = Path(os.environ.get("ENGINE_DATA", "data"))
        if demo:
            data = demo_data.phantoms(folder.folder.with_name(f"{folder.folder.name}-phantoms"))
    # What is refused is refused before anything is said or moved aside.
    if not dry_run:
        folder.refuse_locked()
    prior_network.vet(resolved.prior, resolved.window, folder)
    runtime.check(devices, precision, xla)
    found = survey(resolved, data, Trust(assume_hu, allow_bad_crc, max_gib, volume))
    if dry_run or fresh:
        found.refuse(skip_bad=skip_bad)
    if others := unused(data):
        named = ", ".join(path.name for path in others[:3])
        terminal.warn(f"{data}: {len(others)} beside the cases are not used: {named}")
    for case in (case for cases in found.good().values() for case in cases):
        terminal.doubt(case.doubts())
    if dry_run:
        for line in describe(resolved, found, begin):
            terminal.result(line)
        terminal.result(to_json(resolved).rstrip())
        return
    if fresh and (aside := folder.set_aside()):
        terminal.say(f"The existing run is now {aside}")
    machine, consent = Machine(devices, precision, xla), Consent(accept_changes, skip_bad)
    train(resolved, source, found, folder, machine, terminal, stop, begin, consent)
    if demo:
        demo_data.show(folder, data, devices, terminal)
    else:
        terminal.result(str(folder.folder))
