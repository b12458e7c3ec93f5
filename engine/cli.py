"""The command line: words in, the engine called, one line out where it refuses."""

from __future__ import annotations

import io
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.ending import told
from engine.options import (
    AssumeHu,
    BadCrc,
    Data,
    Debug,
    Devices,
    MaxGib,
    Output,
    Overwrite,
    Quiet,
    Seed,
    Verbose,
    Which,
    WhichVolume,
)

_PIPE_CLOSED = 141  # as of a process that SIGPIPE ends

_CTRL_C = 130

app = typer.Typer(
    name="engine",
    help="Trains and applies networks that remove noise and artefacts from CT volumes. "
    "Research use, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from engine import __version__

        print(f"engine {__version__}")
        raise typer.Exit


@app.callback()
def engine(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Trains and applies networks that remove noise and artefacts from CT volumes."""


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
    from engine import demo as demo_data
    from engine import origin, prior, runtime
    from engine import recipe as recipes
    from engine.fit import Consent, Machine, describe
    from engine.fit import fit as train
    from engine.interrupt import interruptible
    from engine.journal import Terminal
    from engine.refusals import BadUsage
    from engine.run import Run
    from engine.survey import survey
    from volumes.dataset import unused
    from volumes.trust import Trust

    stop = context.with_resource(interruptible())
    terminal = Terminal(quiet=quiet, verbose=verbose)
    if start_checkpoint is not None and start is None:
        raise BadUsage("--from-checkpoint", "chooses from no run", "Name the run by --from")
    source = recipes.find(recipe)
    if not quiet and recipes.foreign(source):
        terminal.say(f"Running the Python code of {source}")
    changes = [*(demo_data.SMALL if demo else ()), *(overrides or ())]
    changes += [f"steps={steps}"] if steps is not None else []
    changes += [f"seed={seed}"] if seed is not None else []
    resolved = recipes.override(recipes.load(source), changes)
    folder = Run(run or Path("runs") / (source.stem + ("-demo" if demo else "")))
    begin = None
    if start is not None:
        begin = origin.find(Run(start), start_checkpoint or "best", resolved, folder)
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
    prior.vet(resolved.prior, resolved.window, folder)
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
        terminal.result(recipes.to_json(resolved).rstrip())
        return
    if fresh and (aside := folder.set_aside()):
        terminal.say(f"The existing run is now {aside}")
    machine, consent = Machine(devices, precision, xla), Consent(accept_changes, skip_bad)
    train(resolved, source, found, folder, machine, terminal, stop, begin, consent)
    if demo:
        demo_data.show(folder, data, devices, terminal)
    else:
        terminal.result(str(folder.folder))


@app.command()
def denoise(
    volumes: Annotated[list[Path], typer.Argument(help="NIfTI scans.", readable=False)],
    model: Annotated[
        Path | None,
        typer.Option("-m", "--model", readable=False,
                     help="A run folder. Default: the newest under ./runs."),
    ] = None,
    output: Output = None,
    prior: Annotated[
        Path | None, typer.Option("--prior", readable=False,
                     help="A second scan, on the same grid, as the prior.")
    ] = None,
    checkpoint: Which = "best",
    tile: Annotated[
        str | None, typer.Option("--tile", metavar="Z,Y,X", help="Voxels a tile keeps.")
    ] = None,
    save_residual: Annotated[
        bool, typer.Option("--save-residual", help="Write input - output, too.")
    ] = False,
    preview: Annotated[
        Path | None, typer.Option("--preview", help="Draw the middle slice into a PNG.")
    ] = None,
    strength: Annotated[
        float, typer.Option("--strength", min=0.0, max=1.5, help="0 returns the input, 1 is the "
                            "network's estimate.")
    ] = 1.0,
    photons: Annotated[
        float | None,
        typer.Option("--photons", min=1.0, max=1e15, help="Dose of the scan, in photons a ray, for "
                     "a network that is told it."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show tiles and memory.")] = False,
    reproducible: Annotated[
        bool, typer.Option("--reproducible", help="Leave time and machine out of the sidecar, and "
                           "choose tiles that every machine would.")
    ] = False,
    strip_phi: Annotated[
        bool, typer.Option("--strip-phi", help="Clear free text and extensions of the header, "
                           "which may hold names and dates.")
    ] = False,
    devices: Devices = "auto",
    overwrite: Overwrite = False,
    assume_hu: AssumeHu = False, allow_bad_crc: BadCrc = False, max_gib: MaxGib = 4.0,
    volume: WhichVolume = None,
    quiet: Quiet = False, verbose: Verbose = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Write VOLUME_denoised.nii.gz beside each VOLUME: same header, less noise.

    Research use, not a medical device.
    """
    from engine.denoise import Request
    from engine.journal import Terminal
    from engine.restore import Job, restore
    from engine.run import Run, newest_run
    from volumes.trust import Trust

    terminal = Terminal(quiet=quiet, verbose=verbose)
    job = Job(
        run=Run(model) if model else newest_run(), checkpoint=checkpoint,
        request=Request(
            prior, _shape(tile, "--tile") if tile else None, strength, photons, reproducible,
            strip_phi,
        ),
        output=output, preview=preview, residual=save_residual, overwrite=overwrite,
        devices=devices, trust=Trust(assume_hu, allow_bad_crc, max_gib, volume),
    )  # fmt: skip
    restore(job, volumes, terminal, only_plan=plan)


@app.command()
def evaluate(
    methods: Annotated[
        list[str],
        typer.Argument(metavar="METHOD...", help="Run folders, and noisy, prior, tv, nlm, bm3d, "
                       "bm4d, spade. METHOD@PRIOR gives it another prior: mean, noisy, tv, clean, "
                       "turned or a run folder; :RADIUS averages neighbours."),
    ],
    data: Data = None,
    split: Annotated[str, typer.Option("--split", help="test, validation or all.")] = "test",
    noise: Annotated[
        str | None,
        typer.Option("--noise", help="gaussian:0.1, or several levels: gaussian:0.02,0.1; "
                     "coloured:0.05 or coloured:SIGMA/EXPONENT/CUTOFF; recorded:NAME. "
                     "Default: gaussian:0.1, where --as names nothing."),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option("--as", metavar="KIND:VALUE[,...]", help="Simulated scanners, as of degrade: "
                     "low_dose:7e4,1e5,2e5,sparse_view:60,90,180."),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Where the report goes.")
    ] = Path("report"),
    protocol: Annotated[
        str, typer.Option("--protocol", help="volumes, or reference: the first slice of a central "
                          "crop, as Abascal et al. score.")
    ] = "volumes",
    slices: Annotated[
        int | None, typer.Option("--slices", min=1, help="Score so many slices about the middle.")
    ] = None,
    checkpoint: Which = "best",
    tuning: Annotated[
        bool, typer.Option("--tuning/--no-tuning", help="Let validation cases choose the "
                           "parameters of classical methods, or keep their usual ones.")
    ] = True,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Score cases that a network was trained on, too.")
    ] = False,
    devices: Devices = "auto",
    overwrite: Overwrite = False,
    assume_hu: AssumeHu = False, allow_bad_crc: BadCrc = False, max_gib: MaxGib = 4.0,
    volume: WhichVolume = None,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Compare METHODs on the same cases with the same noise: tables, figures, CSV, JSON."""
    from engine.journal import Terminal
    from engine.selection import Wanted, evaluate
    from volumes.trust import Trust

    wanted = Wanted(
        methods=tuple(methods), data=data or Path(os.environ.get("ENGINE_DATA", "data")),
        split=split, noise=noise, kinds=kinds, protocol=protocol, slices=slices,
        checkpoint=checkpoint, tuning=tuning, allow_seen=allow_seen, devices=devices,
        overwrite=overwrite, trust=Trust(assume_hu, allow_bad_crc, max_gib, volume),
    )  # fmt: skip
    evaluate(wanted, output, Terminal(quiet=quiet))


@app.command(name="import")
def import_weights(
    weights: Annotated[
        Path,
        typer.Argument(metavar="WEIGHTS", readable=False, help="Keras weights (.h5), or a run."),
    ],
    run: Annotated[Path, typer.Option("--run", readable=False, help="The run folder to make.")],
    network: Annotated[
        str | None,
        typer.Option("--network", help="The recipe whose network Keras weights fit, such as "
                     "unet2d. A run knows its own."),
    ] = None,
    checkpoint: Which = "best",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...")] = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Make weights a run folder: released Keras weights, or those of a run without its optimizer.

    Nothing in a file of Keras weights is executed.
    """
    from engine import keras_weights, run_weights
    from engine import recipe as recipes
    from engine.journal import Terminal
    from engine.refusals import BadUsage
    from engine.run import Run

    if weights.is_dir() and network is None:
        if overrides:
            raise BadUsage(overrides[0], "changes what the run tells of itself", "Leave it out")
        run_weights.import_run(Run(weights), checkpoint, Run(run))
    else:
        if network is None:
            raise BadUsage("--network", "is missing", "Name the recipe whose network they fit")
        source = recipes.find(network)
        resolved = recipes.override(recipes.load(source), overrides or ())
        keras_weights.import_run(weights, resolved, source, Run(run))
    Terminal().result(str(run))


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
    volume: WhichVolume = None,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Write a copy of each VOLUME with simulated noise or views left out; its header is kept.

    Several kinds, or a folder, make a folder of cases: OUT/<case>/imaging.nii.gz is the clean
    reference, and <kind>.nii.gz lies beside it. Files that are finished there are kept.
    """
    from engine.degradations import parse
    from engine.degrade import Job, run
    from engine.journal import Terminal
    from volumes.trust import Trust

    trust = Trust(assume_hu, allow_bad_crc, max_gib, volume)
    job = Job(parse(kinds), seed, output, overwrite, devices, trust)
    run(job, volumes, Terminal(quiet=quiet))


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where case_00000/... will lie.")],
    cases: Annotated[int, typer.Option("--cases", min=1, help="How many.")] = 8,
    shape: Annotated[str, typer.Option("--shape", metavar="Z,Y,X")] = "48,256,256",
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Write synthetic abdomens in KiTS19's layout."""
    from engine.demo import write_phantoms

    for path in write_phantoms(folder, cases, _shape(shape, "--shape"), seed):
        print(path)


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A scan, a denoised scan or a run folder.")],
    allow_bad_crc: BadCrc = False, max_gib: MaxGib = 4.0, volume: WhichVolume = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Show what a scan or a run is; of a run, the fingerprint of its last checkpoint."""
    from engine.info import about
    from volumes.trust import Trust

    rows = about(path, Trust(checksum=allow_bad_crc, gib=max_gib, volume=volume))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="VOLUME_denoised.nii.gz")],
    model: Annotated[
        Path | None, typer.Option("-m", "--model", readable=False,
                     help="The run folder that it should be of.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--input", readable=False,
                     help="The scan that was denoised. Default: VOLUME, where it lies "
                     "beside the output."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Apply the model once more and compare every "
                           "voxel; takes as long as denoising did.")
    ] = False,
    prior: Annotated[
        Path | None, typer.Option("--prior", readable=False,
                     help="The second scan, for --again, where one was given.")
    ] = None,
    devices: Devices = "auto",
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Check a denoised scan against its sidecar, its input and its model.

    Ends with 3 where a file is not what the sidecar says, with 5 where the model is another.
    """
    from engine import runtime
    from engine.journal import Terminal
    from engine.refusals import BadUsage
    from engine.repetition import Repetition
    from engine.run import Run
    from engine.verify import verify as checked

    runtime.check(devices, "auto", "auto")
    if prior is not None and not again:
        raise BadUsage("--prior", "is looked at by --again alone", "Ask for that, or leave it out")
    repetition = Repetition(prior, devices, Terminal(quiet=quiet)) if again else None
    for line in checked(path, Run(model) if model else None, source, repetition):
        print(line, flush=True)


@app.command()
def bench(
    steps: Annotated[int, typer.Option("--steps", min=3, help="Steps a round.")] = 10,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds; medians count.")] = 5,
    debug: Debug = False,
) -> None:
    """Compare the training step with keras.Model.fit on this machine, in one run."""
    from engine.bench import compare
    from engine.journal import Terminal

    compare(steps, rounds, Terminal())


@app.command()
def doctor(
    devices: Devices = "auto",
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Find out in a minute whether this machine learns, denoises, resumes and refuses as it should.

    Exit code 0 where all is well, else 1.
    """
    from engine.doctor import examine
    from engine.journal import Terminal

    if not examine(devices, Terminal(quiet=quiet)):
        raise typer.Exit(1)


def _shape(text: str, option: str) -> tuple[int, int, int]:
    from engine.refusals import BadUsage

    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError as error:
        remedy = "Write three numbers such as 32,256,256"
        raise BadUsage(option, f"takes Z,Y,X, not {text!r}", remedy) from error
    if min(z, y, x) < 1:
        raise BadUsage(option, f"takes positive numbers, not {text!r}", "Write such as 32,256,256")
    return z, y, x


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and ends the process with the exit code of the contract."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # the names of files are bytes
    sys.exit(run(arguments))


def run(arguments: list[str]) -> int:
    """Runs a command; returns its exit code."""
    try:
        result: Any = app(arguments, prog_name="engine", standalone_mode=False)
    except KeyboardInterrupt as error:
        return told(error)
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left goes nowhere, without a word
        return _PIPE_CLOSED
    except Exception as error:  # a refusal, a bug, or what typer and TensorFlow raise
        if "--debug" in arguments:
            traceback.print_exc()
        return told(error)
    if result == _CTRL_C:  # typer has caught it
        return told(KeyboardInterrupt())
    return result if isinstance(result, int) else 0
