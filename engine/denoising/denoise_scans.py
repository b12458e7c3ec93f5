"""Restoring: the scans of one command, denoised one after the other and written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine import runtime
from engine.denoising import sidecar
from engine.denoising.denoise import Denoised, Request, check_dose, denoise, plan_for, second_scan
from engine.denoising.writer import write
from engine.errors import BadInput, BadUsage, CannotWrite, NumericalFailure
from engine.inference.predictor import Predictor
from engine.output_paths import (
    beside,
    make_place,
    output_paths,
    refuse_existing,
    refuse_inputs,
    refuse_twice,
    sidecar_path,
)
from engine.plots import panel
from engine.runs.metrics_file import harm
from engine.runs.run import Run
from engine.runs.trained_model import Model, open_model
from engine.terminal import Terminal
from volumes import nifti
from volumes.errors import Refusal
from volumes.nifti import Scan
from volumes.nifti.read_options import STRICT, Trust
from volumes.window import Window


@dataclass(frozen=True)
class Job:
    """What is done to every scan of a command."""

    run: Run
    checkpoint: str
    request: Request
    output: Path | None
    preview: Path | None
    residual: bool
    overwrite: bool
    devices: str
    trust: Trust = STRICT


def restore(job: Job, volumes: Sequence[Path], terminal: Terminal, *, only_plan: bool) -> None:
    """Denoises scans; everything that can be refused is, before TensorFlow is imported.

    One scan that cannot be denoised does not keep the others from it; all of them are told in the
    end. What is wrong with the command, the model or a place to write stops all.

    Raises:
        Refusal: of the kind that the exit code of the contract names.
    """
    runtime.check(job.devices, "auto", "auto")
    failed = _Failed(len(volumes), terminal)
    model = open_model(job.run, job.checkpoint)
    check_dose(job.request, model.recipe)
    opened: list[tuple[list[Scan], int]] = []
    for number, volume in enumerate(volumes):
        with failed.told():
            scan = nifti.open_scan(volume, job.trust)
            second = second_scan(scan, model.recipe, job.request.prior)
            opened.append(([scan] if second is None else [scan, second], number))
            if only_plan:
                terminal.result(_plan(scan, model, job.request))
    if only_plan:
        return failed.end()
    paths = output_paths(volumes, job.output, "_denoised")
    _refuse_outputs(job, volumes, paths)
    waiting: list[tuple[Scan, Path]] = []
    for scans, number in opened:
        with failed.told():
            scan, *others = [each.verified() for each in scans]
            scan = _once_more(scan)
            for each in (scan, *others):
                terminal.doubt({each.path: each.warnings})
            waiting.append((scan, paths[number]))
    if waiting:
        places = [path for _, path in waiting]
        make_place(job.output, places + ([job.preview] if job.preview else []))
        terminal.say(f"Model: {job.run.folder}, step {model.step:,}")
        harmful = harm(job.run, model.step)
        if harmful:
            terminal.warn(f"{job.run.folder}: {harmful}")
        started = runtime.start(job.devices)
        made = sidecar.made(started, reproducible=job.request.reproducible)
        doubts = [f"the model {harmful}"] if harmful else []
        estimator = Predictor.of(model, job.request.photons)
    for scan, path in waiting:
        with failed.told():
            _one(scan, path, job, model, estimator, made, doubts, terminal)
    failed.end()


class _Failed:
    """The scans that could not be denoised: told at once where there are others, and in the end."""

    def __init__(self, count: int, terminal: Terminal) -> None:
        self._count, self._terminal = count, terminal
        self._refusals: list[Refusal] = []

    @contextmanager
    def told(self) -> Iterator[None]:
        """Goes on after a refusal of one scan of several."""
        try:
            yield
        except (BadInput, NumericalFailure) as refusal:
            if self._count == 1:
                raise
            self._terminal.refusal(refusal)
            self._refusals.append(refusal)

    def end(self) -> None:
        """Ends with what the refusals were, where there were any.

        Raises:
            BadInput: naming how many; NumericalFailure where it was that each time.
        """
        if not self._refusals:
            return
        kinds = {type(refusal) for refusal in self._refusals}
        kind = kinds.pop() if len(kinds) == 1 else BadInput
        title = f"{len(self._refusals)} of {self._count} scans"
        raise kind(title, "could not be denoised", "Mend or leave out those named above")


def _refuse_outputs(job: Job, volumes: Sequence[Path], paths: Sequence[Path]) -> None:
    if job.preview and len(volumes) > 1:
        cause = f"is one picture for {len(volumes)} scans"
        raise BadUsage(job.preview, cause, "Ask for --preview with one scan")
    outputs = [*paths, *(sidecar_path(path) for path in paths)]
    outputs += [beside(path, "_residual") for path in paths if job.residual]
    outputs += [job.preview] if job.preview else []
    refuse_inputs(outputs, volumes)
    refuse_twice(outputs)
    refuse_existing(outputs, overwrite=job.overwrite)
    if job.preview and job.preview.suffix.lower() != ".png":
        raise BadUsage(job.preview, "is no name of a picture", "End it in .png")
    for path in paths:
        if sidecar_path(path).exists() and not sidecar.is_sidecar(sidecar_path(path)):
            cause = "describes something else than a denoised scan"
            raise CannotWrite(sidecar_path(path), cause, "Choose another -o, or move it away")


def _once_more(scan: Scan) -> Scan:
    """The scan, which tells where it is one that was denoised already."""
    if not sidecar.is_of(scan.path):
        return scan
    return replace(scan, warnings=(*scan.warnings, "was denoised already, as its sidecar says"))


def _one(
    scan: Scan, path: Path, job: Job, model: Model, estimator: Any, made: dict[str, Any],
    doubts: list[str], terminal: Terminal,
) -> None:  # fmt: skip
    terminal.detail(_plan(scan, model, job.request))
    count = plan_for(scan, model.recipe, job.request).count
    with terminal.progress(scan.path.name, count) as bar:
        denoised = denoise(scan, model, estimator, job.request, bar.at)
    # What is odd about the input and the model has been told.
    found = tuple(words for words in denoised.about["warnings"] if words not in scan.warnings)
    denoised.about.update(made, warnings=[*doubts, *denoised.about["warnings"]])
    for written in write(denoised, path, residual=job.residual, overwrite=job.overwrite):
        terminal.result(str(written))
    if job.preview:
        draw(denoised, job.preview, model.recipe.window)
        terminal.result(str(job.preview))
    terminal.doubt({path: found})


def draw(denoised: Denoised, path: Path, window: Window) -> None:
    """Draws the middle slice before and after, and what was removed."""
    scan = denoised.scan
    middle = scan.shape[0] // 2
    before, after = (
        np.nan_to_num(scan.hu(scan.canonical(stored)[middle]))
        for stored in (denoised.before, denoised.after)
    )
    title = f"slice {middle} of {scan.shape[0]}"
    panel(path, {"input": before, "denoised": after}, before - after, title, window)


def _plan(scan: Scan, model: Model, request: Request) -> str:
    plan = plan_for(scan, model.recipe, request)
    volume_bytes = 2 * scan.nbytes + int(np.prod(scan.shape))
    return (
        f"{scan.path}: {' x '.join(map(str, scan.shape))} voxels, {plan.count} tiles that keep "
        f"{' x '.join(map(str, plan.tile))}, halo {' x '.join(map(str, plan.network.radius))}; "
        f"memory about {plan.bytes / 2**30:.2f} GiB for the network and "
        f"{volume_bytes / 2**30:.2f} GiB for the scan"
    )
