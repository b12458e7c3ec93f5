"""`engine denoise`: checks, denoises and writes the scans of one command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine import runtime
from engine.denoising import sidecar
from engine.denoising.denoise import (
    Denoised,
    DenoiseSettings,
    check_dose,
    denoise,
    plan_for,
    second_scan,
)
from engine.denoising.preview_paths import preview_paths
from engine.denoising.scan_files import scan_files
from engine.denoising.writer import write
from engine.errors import BadInput, BadUsage, CannotWrite, NumericalFailure
from engine.inference.predictor import Predictor
from engine.output_paths import (
    beside,
    is_scan_name,
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
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.storage.atomic import make_folder
from volumes.window import Window


@dataclass(frozen=True)
class DenoiseRequest:
    """The arguments of `engine denoise`, also for the Python API.

    Attributes:
        scans: NIfTI files, or folders of cases.
        run: run folder of the network.
        checkpoint: of the run: best, last or a step.
        settings: how the network is applied.
        output: a file for one scan, else a folder; None writes beside each scan.
        preview: picture of the middle slice, see `engine.denoising.preview_paths`.
        residual: whether input - output is written as well.
        overwrite: whether existing files are replaced.
        only_plan: whether only tiles and memory are shown.
        devices: to compute on; the first of several.
        precision: of the layers between the network's input and output.
        xla: whether XLA compiles the network: auto, on or off.
        reading: options for reading scans.
    """

    scans: tuple[Path, ...]
    run: Run
    checkpoint: str = "best"
    settings: DenoiseSettings = field(default_factory=DenoiseSettings)
    output: Path | None = None
    preview: Path | None = None
    residual: bool = False
    overwrite: bool = False
    only_plan: bool = False
    devices: str = "auto"
    precision: str = "auto"
    xla: str = "auto"
    reading: ReadOptions = STRICT


def denoise_scans(request: DenoiseRequest, terminal: Terminal) -> None:
    """Denoises scans. TensorFlow is imported once the first of them has been read and checked.

    All headers are checked first. The voxels of a scan are read once, right before it is denoised.
    A scan that cannot be denoised does not stop the others; an error at the end counts such scans.
    An error in the command, the model or an output path stops all.

    Raises:
        Refusal: of the kind that the exit code of the contract names.
    """
    runtime.check(request.devices, request.precision, request.xla)
    scans = scan_files(request.scans, request.reading, terminal)
    several = len(scans) > 1 or scans != request.scans
    request = replace(request, scans=scans)
    failed = _Failed(len(scans), terminal)
    model = open_model(request.run, request.checkpoint)
    check_dose(request.settings, model.recipe)
    found = _read_headers(request, model, failed)
    if request.only_plan:
        if request.devices.startswith("gpu"):
            runtime.start_inference(request.devices)  # tells the memory of the GPU
        for scan, *_ in found.values():
            terminal.result(_plan(scan, model, request.settings))
        return failed.end()
    outputs = _outputs(request, several=several)
    work: _Work | None = None
    for number, opened in found.items():
        loaded: list[Scan] = []  # the scan before is freed first
        with failed.noted():
            loaded = _load(opened, terminal)
            if work is None:
                _make_places(request, [outputs[number] for number in found])
                work = _Work.begin(request, model, terminal)
            work.denoise(*loaded, output=outputs[number])
    failed.end()


def _read_headers(request: DenoiseRequest, model: Model, failed: _Failed) -> dict[int, list[Scan]]:
    """The usable scans by their number, each with the second scan if that is the prior."""
    found: dict[int, list[Scan]] = {}
    for number, path in enumerate(request.scans):
        with failed.noted():
            scan = nifti.open_scan(path, request.reading)
            second = second_scan(scan, model.recipe, request.settings.prior)
            found[number] = [scan] if second is None else [scan, second]
    return found


def _load(scans: list[Scan], terminal: Terminal) -> list[Scan]:
    """A scan, and the second scan if that is the prior, in memory. Warns about oddities."""
    scan, *others = [each.loaded() for each in scans]
    if sidecar.is_of(scan.path, scan.sha256()):
        odd = (*scan.warnings, "was denoised already, as its sidecar says")
        scan = replace(scan, warnings=odd)
    for each in (scan, *others):
        terminal.warn_once({each.path: each.warnings})
    return [scan, *others]


@dataclass(frozen=True)
class _Work:
    """The shared part of all scans of a command: one model, loaded once."""

    request: DenoiseRequest
    model: Model
    predictor: Predictor
    made: dict[str, Any]  # versions and machine, for the sidecars
    odd: list[str]  # warnings about the model, for the sidecars
    terminal: Terminal

    @classmethod
    def begin(cls, request: DenoiseRequest, model: Model, terminal: Terminal) -> _Work:
        """Imports TensorFlow and loads the network."""
        terminal.say(f"Model: {request.run.folder}, step {model.step:,}")
        harmful = harm(request.run, model.step)
        if harmful:
            terminal.warn(f"{request.run.folder}: {harmful}")
        started = runtime.start_inference(request.devices, request.precision, request.xla)
        if started.replicas > 1:
            terminal.warn(
                f"--devices {request.devices}: only the first one is used. Several compute if each "
                "has a command of its own, with a part of the scans"
            )
        made = sidecar.made(started, reproducible=request.settings.reproducible)
        predictor = Predictor.of(
            model, request.settings.photons, precision=started.precision, xla=started.xla
        )
        odd = [f"the model {harmful}"] if harmful else []
        return cls(request, model, predictor, made, odd, terminal)

    def denoise(self, scan: Scan, second: Scan | None = None, *, output: _Output) -> None:
        """Denoises one scan and writes the requested files."""
        request, terminal, path = self.request, self.terminal, output.path
        terminal.detail(_plan(scan, self.model, request.settings))
        tiles = plan_for(scan, self.model.recipe, request.settings)
        with terminal.progress(scan.path.name, tiles.count) as bar:
            denoised = denoise(scan, self.model, self.predictor, request.settings, bar.at, second)
        if self.predictor.compiles(tiles):
            denoised.about["xla"] = True
        if denoised.rounding:
            terminal.say(f"{scan.path.name}: {denoised.rounding}")
        # Warnings about the input and the model were shown before.
        found = tuple(words for words in denoised.about["warnings"] if words not in scan.warnings)
        denoised.about.update(self.made, warnings=[*self.odd, *denoised.about["warnings"]])
        for written in write(
            denoised, path, residual=request.residual, overwrite=request.overwrite
        ):
            terminal.result(str(written))
        if output.preview:
            draw(denoised, output.preview, self.model.recipe.window)
            terminal.result(str(output.preview))
        terminal.warn_once({path: found})


class _Failed:
    """The errors of single scans: shown at once if there are others, and counted at the end."""

    def __init__(self, count: int, terminal: Terminal) -> None:
        self._count, self._terminal = count, terminal
        self._refused: list[type[Refusal]] = []  # a refusal itself would keep its scan in memory

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Continues after the refusal of one scan of several."""
        try:
            yield
        except (BadInput, NumericalFailure) as refusal:
            if self._count == 1:
                raise
            self._terminal.refusal(refusal)
            self._refused.append(type(refusal))

    def end(self) -> None:
        """Raises an error if any scan was refused.

        Raises:
            BadInput: with the number of scans; NumericalFailure if every refusal was one.
        """
        if not self._refused:
            return
        kinds = set(self._refused)
        kind = kinds.pop() if len(kinds) == 1 else BadInput
        title = f"{len(self._refused)} of {self._count} scans"
        raise kind(title, "could not be denoised", "Repair or leave out those named above")


class _Output(NamedTuple):
    """Where one scan is written, and its picture."""

    path: Path
    preview: Path | None


def _outputs(request: DenoiseRequest, *, several: bool) -> list[_Output]:
    """The outputs of every scan. Refused ones are refused before any work is done.

    Args:
        request: its scans are files.
        several: whether there may be several scans, as in a folder.
    """
    scans, output, preview = request.scans, request.output, request.preview
    if several and len(scans) == 1 and output is not None and is_scan_name(output):
        raise BadUsage(output, "is one file for a folder", "Name a folder with -o")
    paths = output_paths(scans, output, "_denoised")
    pictures: list[Path] = []
    if preview is not None:
        pictures = preview_paths(preview, scans, paths, several=several)
    files = [*paths, *(sidecar_path(path) for path in paths)]
    files += [beside(path, "_residual") for path in paths if request.residual]
    files += pictures
    refuse_inputs(files, scans)
    refuse_twice(files)
    refuse_existing(files, overwrite=request.overwrite)
    for path in paths:
        if sidecar_path(path).exists() and not sidecar.is_sidecar(sidecar_path(path)):
            cause = "is not the sidecar of a denoised scan"
            raise CannotWrite(sidecar_path(path), cause, "Choose another -o, or move it away")
    return [_Output(*places) for places in zip_longest(paths, pictures)]


def _make_places(request: DenoiseRequest, outputs: Sequence[_Output]) -> None:
    pictures = [output.preview for output in outputs if output.preview]
    if any(picture.parent == request.preview for picture in pictures):
        make_folder(pictures[0].parent)
    make_place(request.output, [*(output.path for output in outputs), *pictures])


def draw(denoised: Denoised, path: Path, window: Window) -> None:
    """Draws the middle slice of input, output and residual."""
    scan = denoised.scan
    middle = scan.shape[0] // 2
    before, after = (
        np.nan_to_num(scan.hu(scan.canonical(stored)[middle]))
        for stored in (denoised.before, denoised.after)
    )
    title = f"slice {middle} of {scan.shape[0]}"
    panel(path, {"input": before, "denoised": after}, before - after, title, window)


def _plan(scan: Scan, model: Model, settings: DenoiseSettings) -> str:
    plan = plan_for(scan, model.recipe, settings)
    volume_bytes = 2 * scan.nbytes + int(np.prod(scan.shape))
    return (
        f"{scan.path}: {' x '.join(map(str, scan.shape))} voxels, {plan}; "
        f"memory about {plan.bytes / 2**30:.2f} GiB for the network and "
        f"{volume_bytes / 2**30:.2f} GiB for the scan"
    )
