"""Restoring: the scans of one command, denoised one after the other and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import runtime
from engine.denoise import Denoised, Request, check_dose, denoise, plan_for, second_scan, write
from engine.journal import Terminal
from engine.model import Model, open_model
from engine.outputs import (
    beside,
    make_place,
    output_paths,
    refuse_existing,
    refuse_inputs,
    refuse_twice,
    sidecar,
)
from engine.preview import panel
from engine.refusals import BadUsage
from engine.run import Run
from volumes import nifti
from volumes.nifti import Scan
from volumes.trust import STRICT, Trust
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

    Raises:
        Refusal: of the kind that the exit code of the contract names.
    """
    runtime.check(job.devices, "auto", "auto")
    scans = [nifti.open_scan(volume, job.trust) for volume in volumes]
    model = open_model(job.run, job.checkpoint)
    check_dose(job.request, model.recipe)
    paths = output_paths(volumes, job.output, "_denoised")
    if only_plan:
        for scan in scans:
            terminal.result(_plan(scan, model, job.request))
        return
    if job.preview and len(scans) > 1:
        cause = f"is one picture for {len(scans)} scans"
        raise BadUsage(job.preview, cause, "Ask for --preview with one scan")
    outputs = [*paths, *(sidecar(path) for path in paths)]
    outputs += [beside(path, "_residual") for path in paths if job.residual]
    outputs += [job.preview] if job.preview else []
    refuse_inputs(outputs, volumes)
    refuse_twice(outputs)
    refuse_existing(outputs, overwrite=job.overwrite)
    seconds = [second_scan(scan, model.recipe, job.request.prior) for scan in scans]
    scans = [scan.verified() for scan in scans]
    # The second scan is the same one for all.
    others = [second.verified() for second in seconds[:1] if second is not None]
    make_place(job.output, outputs)
    for read in (*scans, *others):
        terminal.doubt(read.path, read.warnings)
    terminal.say(f"Model: {job.run.folder}, step {model.step:,}")
    runtime.start(job.devices)
    estimator = model.estimator(photons=job.request.photons)
    for scan, path in zip(scans, paths, strict=True):
        _one(scan, path, job, model, estimator, terminal)


def _one(
    scan: Scan, path: Path, job: Job, model: Model, estimator: Any, terminal: Terminal
) -> None:
    terminal.detail(_plan(scan, model, job.request))
    count = plan_for(scan, model.recipe, job.request.tile).count
    with terminal.progress(scan.path.name, count) as bar:
        denoised = denoise(scan, model, estimator, job.request, bar.at)
    for written in write(denoised, path, residual=job.residual, overwrite=job.overwrite):
        terminal.result(str(written))
    if job.preview:
        draw(denoised, job.preview, model.recipe.window)
        terminal.result(str(job.preview))
    saturated = denoised.about["voxels"]["saturated"]
    if saturated:
        terminal.warn(f"{path}: {saturated:,} voxels were saturated by the file's datatype")


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
    plan = plan_for(scan, model.recipe, request.tile)
    volume_bytes = 2 * scan.nbytes + int(np.prod(scan.shape))
    return (
        f"{scan.path}: {' x '.join(map(str, scan.shape))} voxels, {plan.count} tiles that keep "
        f"{' x '.join(map(str, plan.tile))}, halo {' x '.join(map(str, plan.network.radius))}; "
        f"memory about {plan.bytes / 2**30:.2f} GiB for the network and "
        f"{volume_bytes / 2**30:.2f} GiB for the scan"
    )
