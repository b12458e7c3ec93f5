"""Fit: from a recipe and a folder of scans to a trained run."""

from __future__ import annotations

import importlib.util
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from engine import runtime
from engine.checkpoints import checkpoint
from engine.errors import BadUsage, Interrupted
from engine.recipe import foreign_parts, summary
from engine.recipe.network_prior import resolved
from engine.recipe.recipe import Recipe
from engine.runs import compatibility, own_settings
from engine.runs.run import Run
from engine.terminal import Terminal
from engine.training import device_cache
from engine.training.bfloat16 import refuse_shallow
from engine.training.cases import read_cases
from engine.training.cluster import Cluster, joined
from engine.training.fit_request import FitRequest
from engine.training.preparation import Prepared, prepare
from engine.training.provenance import DECIDES_BITS, about_program
from engine.training.resumption import compare_cases, compare_run, resume_notes
from engine.training.signals import Stop, Stopped
from volumes.sampling.examples import Examples
from volumes.sampling.noise import AsScanned, Recorded
from volumes.volume import Volume

_MEASURED = 8  # scans, a second each


def fit(request: FitRequest, terminal: Terminal, stop: Stop) -> Run | None:
    """Trains a recipe in a run folder, or resumes the run that is there.

    Bad input is refused before TensorFlow is imported. Bad headers are refused before anything is
    written or moved aside.

    Args:
        request: the options.
        terminal: shows messages and progress.
        stop: checked between scans and between steps.

    Returns:
        The run; None for a dry run.

    Raises:
        Refusal: an error for the user. Its class sets the exit code.
    """
    folder = request.run_folder
    try:
        with stop.at_once():
            if request.dry_run:
                _dry_run(request, terminal)
                return None
            with joined(stop, terminal) as cluster:
                refuse_alone(request, cluster)
                return (_fit if cluster.chief else _work)(request, terminal, stop, cluster)
    except Stopped as stopped:  # before its first step: nothing had to be saved
        cause = f"stopped before its first step by {stopped}"
        raise Interrupted(folder, cause, "Run the same command to resume") from None


def _dry_run(request: FitRequest, terminal: Terminal) -> None:
    from engine.training.dry_run import dry_run

    prepared = prepare(request, terminal)
    prepared.say_resumed(terminal)
    dry_run(prepared, request, terminal)


def _fit(request: FitRequest, terminal: Terminal, stop: Stop, cluster: Cluster) -> Run:
    prepared = prepare(request, terminal)
    run = prepared.run
    if request.fresh and (aside := run.set_aside()):
        terminal.say(f"The existing run is now {aside}")
    with run.locked(terminal.warn):
        _train(prepared, request, terminal, stop, cluster)
    return run


def _train(
    prepared: Prepared, request: FitRequest, terminal: Terminal, stop: Stop, cluster: Cluster
) -> None:
    """Trains the run. The caller holds its lock."""
    recipe, run = prepared.recipe, prepared.run
    run.sweep()
    resumed = compare_run(prepared, request, terminal.warn)
    prepared.say_resumed(terminal)
    volumes, found = read_cases(
        prepared.cases, recipe, terminal, stop.check, skip_bad=request.skip_bad
    )
    if isinstance(recipe.noise, AsScanned | Recorded):
        some = volumes["training"][:_MEASURED]
        noisy = {volume.case: recipe.noise.recording(volume) for volume in some}
        if doubt := recipe.objective.doubt(noisy):
            terminal.warn(doubt)
    about, changes = compare_cases(prepared, request, resumed, terminal, volumes, found)
    # TensorFlow takes seconds to import. Errors that do not need it were raised above.
    stop.check()
    terminal.say("\n".join(summary.lines(recipe)))
    cluster.tell("start")
    started = _started(request, stop, cluster)
    refuse_uneven(recipe, started)
    refuse_shallow(recipe, started)
    if not checkpoint.steps(run.checkpoints):
        warn_of_network(recipe, terminal)
    about = about_program(recipe, started, request.command) | about
    if (own := prepared.requested.own) is not None:
        about["own_settings"] = own_settings.to_plain(own)
    terminal.detail(json.dumps({name: about[name] for name in DECIDES_BITS}))
    changes += compatibility.of_scores(resumed.record.content, about)
    notes = resume_notes(run, resumed.record, changes, recipe, about)
    record = run.begin(recipe, prepared.requested.source, about, resumed.record, changes)
    resumed.prior.copy_into(run)
    recipe = replace(recipe, prior=resolved(recipe.prior, run.folder))
    stop.check()
    for note in notes:
        terminal.warn(f"{run.folder}: {note}")
    cluster.tell({"precision": started.precision, "xla": started.xla})
    from engine.training.trainer import Trainer, TrainingPlan
    from engine.training.validation import Validation

    examples = _examples(recipe, volumes["training"])
    validation = Validation(recipe, _until_stopped(volumes["validation"], stop.check))
    on_device = request.cache == "device"
    if on_device and (cause := device_cache.too_large(examples)):
        terminal.say(f"{request.data}: is read from the disk: {cause}")
        on_device = False
    plan = TrainingPlan(
        run, record, recipe, started, examples, validation, terminal, on_device,
        request.observation, cluster,
    )  # fmt: skip
    missing = importlib.util.find_spec("tensorboard") is None
    install = "pip install tensorboard, then " if missing else ""
    terminal.say(f"To watch it: {install}tensorboard --logdir {shlex.quote(str(run.folder))}")
    cluster.gather()
    Trainer(plan, resumed.start).train(stop)


def _work(request: FitRequest, terminal: Terminal, stop: Stop, cluster: Cluster) -> Run:
    """Works for the chief until it ends. Nothing is written.

    The chief begins the run first, so that this process resumes what is in the run folder.

    Raises:
        SystemExit: with the exit code of the chief.
    """
    cluster.told()
    started = _started(request, stop, cluster)
    if (computes := cluster.told()) != {"precision": started.precision, "xla": started.xla}:
        cause = f"differs: the chief computes with {computes}, this machine with {started.about}"
        raise BadUsage("--precision", cause, "Name --precision and --xla")
    prepared = prepare(replace(request, fresh=False), terminal, locked=True)
    run = prepared.run
    resumed = compare_run(prepared, request, terminal.warn, rename=False)
    volumes, found = read_cases(
        prepared.cases, prepared.recipe, terminal, stop.check, skip_bad=request.skip_bad
    )
    compare_cases(
        prepared, replace(request, accept_changes=False), resumed, terminal, volumes, found
    )
    recipe = replace(prepared.recipe, prior=resolved(prepared.recipe.prior, run.folder))
    from engine.training.worker import Worker

    examples = _examples(recipe, volumes["training"])
    on_device = request.cache == "device" and not device_cache.too_large(examples)
    cluster.gather()
    stop.hold()  # from here on the chief decides when to stop
    worker = Worker(recipe, started, cluster)
    worker.work(run, examples, on_device=on_device)
    return run


def _started(request: FitRequest, stop: Stop, cluster: Cluster) -> runtime.Runtime:
    """The runtime of this process, and of all that share its batches."""
    addresses = tuple(cluster.addresses)
    workers = runtime.Workers(addresses, cluster.rank) if addresses else None
    started = runtime.start(request.devices, request.precision, request.xla, workers)
    stop.listen()  # TensorFlow has taken SIGTERM for itself
    return started


def _examples(recipe: Recipe, volumes: Sequence[Volume]) -> Examples:
    return Examples(
        volumes, recipe.crop, recipe.noise, recipe.prior, recipe.seed, recipe.objective.halo
    )


def refuse_alone(request: FitRequest, cluster: Cluster) -> None:
    """Refuses options of a training in one process, if there are several.

    Raises:
        BadUsage: naming the option.
    """
    for option, given in (
        ("--histograms", request.observation.histograms),
        ("--devices cpu:", request.devices.startswith("cpu:")),
    ):
        if given and cluster.size > 1:
            cause = f"works in one process, and this training has {cluster.size}"
            raise BadUsage(option, cause, "Leave it out")


def warn_of_network(recipe: Recipe, terminal: Terminal) -> None:
    """Checks a network that is not the engine's. TensorFlow must have been started.

    Raises:
        BadUsage: if it cannot be trained.
    """
    if foreign_parts.is_foreign(type(recipe.network)):
        from engine.training.network_check import check_network

        for warning in check_network(recipe.network):
            terminal.warn(warning)


def refuse_uneven(recipe: Recipe, started: runtime.Runtime) -> None:
    """Refuses a batch that cannot be shared by the devices.

    Raises:
        BadUsage: naming the number of devices.
    """
    if recipe.batch % started.replicas:
        cause = f"{recipe.batch} examples cannot be shared by {started.replicas} devices"
        raise BadUsage("batch", cause, f"Use a multiple of {started.replicas}")


def _until_stopped(volumes: Sequence[Volume], check_stop: Callable[[], None]) -> Iterator[Volume]:
    """The volumes, with a check for a stop after each one: to use one may take minutes."""
    for volume in volumes:
        yield volume
        check_stop()
