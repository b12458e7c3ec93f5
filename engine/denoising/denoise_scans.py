"""`engine denoise`: checks, denoises and writes the scans of one command."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from engine import runtime
from engine.denoising import sidecar
from engine.denoising.batch import Slices, Tally, scans_in_words
from engine.denoising.denoise import (
    Denoised,
    DenoiseSettings,
    check_dose,
    denoise,
    plan_for,
    second_scan,
)
from engine.denoising.earlier import Earlier, EarlierOutputs
from engine.denoising.network_choice import SCANNER, WHITE, NetworkChoice, choose_network
from engine.denoising.outputs import Output, make_places, outputs_of, without_outputs
from engine.denoising.pictures import draw_planes, write_page
from engine.denoising.pipeline import Ahead, Behind, Worker
from engine.denoising.plans import plan_in_words, show_plans
from engine.denoising.scan_files import named, scan_files
from engine.denoising.shard import Shard
from engine.denoising.shared_memory import SharedMemory
from engine.denoising.writer import write
from engine.inference.predictor import Predictor
from engine.output_paths import exists
from engine.runs.metrics_file import harm
from engine.runs.run import Run, named_run
from engine.runs.trained_model import Model, open_model
from engine.runtime import Runtime
from engine.terminal import Terminal
from volumes import nifti
from volumes.dicom import open_ct
from volumes.nifti import Scan
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.storage.atomic import remove_orphans
from volumes.window import Window


@dataclass(frozen=True)
class DenoiseRequest:
    """The arguments of `engine denoise`, also for the Python API.

    Attributes:
        scans: NIfTI files, or folders of cases.
        run: run folder of the network; None chooses a network that ships for each scan, by its
            noise.
        checkpoint: of the run: best, last or a step.
        settings: how the network is applied.
        output: a file for one scan, else a folder; None writes beside each scan.
        preview: picture of the middle planes, see `engine.denoising.preview_paths`.
        page: HTML page with a viewer, likewise.
        residual: whether input - output is written as well.
        overwrite: whether existing files are replaced.
        only_plan: whether only tiles and memory are shown.
        timed: whether the plan also shows the expected time.
        shard: part of the scans that is denoised; None is all of them.
        devices: to compute on; the first of several.
        precision: of the layers between the network's input and output.
        xla: whether XLA compiles the network: auto, on or off.
        reading: options for reading scans.
    """

    scans: tuple[Path, ...]
    run: Run | None = None
    checkpoint: str = "best"
    settings: DenoiseSettings = field(default_factory=DenoiseSettings)
    output: Path | None = None
    preview: Path | None = None
    page: Path | None = None
    residual: bool = False
    overwrite: bool = False
    only_plan: bool = False
    timed: bool = False
    shard: Shard | None = None
    devices: str = "auto"
    precision: str = "auto"
    xla: str = "auto"
    reading: ReadOptions = STRICT


def denoise_scans(request: DenoiseRequest, terminal: Terminal) -> None:
    """Denoises scans. TensorFlow is imported once the first of them has been read and checked.

    All headers are checked first. The voxels of a scan are read once, while the one before it is
    denoised.
    A scan that cannot be denoised does not stop the others; an error at the end counts such scans.
    An error in the command, the model or an output path stops all.

    A command with several scans, a folder or a shard is a batch. It keeps the outputs that an
    earlier command finished, and can be given again after it was killed.

    Raises:
        Refusal: of the kind that the exit code of the contract names.
    """
    runtime.check(request.devices, request.precision, request.xla)
    request = replace(request, scans=tuple(map(named, request.scans)))
    scans = scan_files(request.scans, request.reading, terminal)
    several = len(scans) > 1 or scans != request.scans
    if several:
        scans = without_outputs(scans, request.output, terminal)
    request = replace(request, scans=scans)
    chosen = [*range(len(scans))] if request.shard is None else request.shard.positions(scans)
    if not chosen:
        terminal.say(f"No scan is in this shard of {scans_in_words(len(scans))}")
        return
    batch = several or request.shard is not None
    tally = Tally(len(chosen), terminal, batch=batch)
    models = _models(request)
    model = models[0]  # those that ship differ in their weights alone
    check_dose(request.settings, model.recipe)
    found = _read_headers(request, chosen, model, tally)
    if request.only_plan:
        _show_plans([scan for scan, *_ in found.values()], request, model, terminal)
        return tally.end()
    outputs = outputs_of(
        scans, request.output, request.preview, residual=request.residual, several=several,
        page=request.page,
    )  # fmt: skip
    _refuse_outputs(request, [outputs[number] for number in found], keep=batch)
    for number, (scan, *_) in found.items():
        outputs[number].refuse_patient(scan)
    earlier = dict.fromkeys(found, Earlier.NOTHING)
    if not request.overwrite:
        known = EarlierOutputs.of(
            models, request.settings, request.precision, residual=request.residual,
            chosen=request.run is None,
        )  # fmt: skip
        earlier = known.of_scans({n: found[n][0] for n in found}, outputs, tally, terminal)
    kept = [number for number in earlier if earlier[number].finished]
    waiting = {number: found[number] for number in earlier if number not in kept}
    if batch:
        _tell_kept([earlier[number] for number in kept], len(chosen), terminal)
    places = [outputs[number] for number in earlier]
    remove_orphans(file for place in places for file in place.files(residual=True))
    pictures = (request.preview, request.page)
    with tally.summarised():
        if kept:
            make_places([outputs[number] for number in kept], request.output, pictures)
        for number in kept:
            with tally.noted(request.scans[number]):
                _draw_missing(found[number][0], outputs[number], model, terminal)
                tally.kept += 1
        _denoise_all(waiting, request, models, outputs, earlier, tally, terminal)


def _denoise_all(
    waiting: dict[int, list[Scan]], request: DenoiseRequest, models: list[Model],
    outputs: list[Output],
    earlier: dict[int, Earlier], tally: Tally, terminal: Terminal,
) -> None:  # fmt: skip
    """Denoises scans, given by their number, in order.

    While one is denoised, the next is read and the last is written, if memory allows. TensorFlow is
    imported after the first is read.
    """
    works = Works(request, models, terminal)
    depths = [scan.shape[0] for scan, *_ in waiting.values()]
    memory = SharedMemory(waiting, models[0], request.settings, residual=request.residual)
    with (
        Slices.of(depths, terminal) as slices,
        Worker("reads scans") as reading,
        Worker("writes scans") as writing,
    ):
        read = Ahead(lambda n: _voxels(waiting[n]), waiting, reading, memory.holds_read)
        behind = Behind(writing)
        for number in waiting:
            loaded: list[Scan] = []  # the scan before is freed first
            with tally.noted(request.scans[number]):
                loaded = announced(read(number), terminal)
                if not works.begun:
                    pictures = (request.preview, request.page)
                    make_places([outputs[n] for n in waiting], request.output, pictures)
                work = works.of(loaded[0])
                replaces = request.overwrite or earlier[number] is Earlier.INTERRUPTED
                denoised = work.denoise(loaded, slices, behind.check)
                behind.put(
                    partial(work.write, denoised, outputs[number], tally, overwrite=replaces)
                )
                del denoised
                if not memory.holds_written(number):
                    behind.wait()
        behind.wait()


def _models(request: DenoiseRequest) -> list[Model]:
    """The model of a request, or those that it chooses from."""
    runs = [named_run(SCANNER), named_run(WHITE)] if request.run is None else [request.run]
    return [open_model(run, request.checkpoint) for run in runs]


def _show_plans(
    scans: list[Scan], request: DenoiseRequest, model: Model, terminal: Terminal
) -> None:
    predictor = None
    if request.timed or request.devices.startswith("gpu"):  # tells the memory of the GPU
        started = runtime.start_inference(request.devices, request.precision, request.xla)
        predictor = _predictor(model, request, started) if request.timed else None
    show_plans(
        scans, model, request.settings, terminal, predictor=predictor, residual=request.residual
    )


def _predictor(model: Model, request: DenoiseRequest, started: Runtime) -> Predictor:
    photons = request.settings.photons
    return Predictor.of(model, photons, precision=started.precision, xla=started.xla)


def _refuse_outputs(request: DenoiseRequest, outputs: list[Output], *, keep: bool) -> None:
    """Refuses outputs that may not be replaced; unless some are kept, all that exist."""
    for output in outputs:
        output.refuse_others(residual=request.residual)
        if not keep and not request.overwrite:
            output.refuse_existing()


def _read_headers(
    request: DenoiseRequest, chosen: list[int], model: Model, tally: Tally
) -> dict[int, list[Scan]]:
    """The usable scans by their number, each with the second scan if that is the prior."""
    found: dict[int, list[Scan]] = {}
    for number in chosen:
        path = request.scans[number]
        with tally.noted(path):
            scan = open_ct(path, request.reading)
            second = second_scan(scan, model.recipe, request.settings.prior)
            found[number] = [scan] if second is None else [scan, second]
    return found


def _voxels(scans: list[Scan]) -> list[Scan]:
    """A scan, and the second scan if that is the prior, in memory."""
    return [scan.loaded() for scan in scans]


def announced(scans: list[Scan], terminal: Terminal) -> list[Scan]:
    """The same scans in memory. Warns about oddities."""
    scan, *others = scans
    if sidecar.is_of(scan.path, scan.sha256()):
        odd = (*scan.warnings, "was denoised already, as its sidecar says")
        scan = replace(scan, warnings=odd)
    for each in (scan, *others):
        terminal.warn_once({each.path: each.warnings})
    return [scan, *others]


def _tell_kept(kept: list[Earlier], count: int, terminal: Terminal) -> None:
    """Says how many scans are finished already."""
    if not kept:
        return
    terminal.say(f"{len(kept):,} of {count:,} finished before")
    if others := kept.count(Earlier.FINISHED_BY_OTHER_CODE):
        terminal.warn(
            f"{others:,} of the finished scans were made by another version of the program. "
            "Ask for --overwrite to make all again"
        )


def _draw_missing(scan: Scan, output: Output, model: Model, terminal: Terminal) -> None:
    """Draws the picture and the page of a finished scan that do not exist, from its files."""
    missing = [path for path in output.pictures if not exists(path)]
    if not missing:
        return
    after = nifti.open_scan(output.path, ReadOptions(hu=True, gib=math.inf)).read()
    denoised = Denoised(scan, scan.read(), after, {})
    for path in missing:
        _draw(denoised, output, path, model.recipe.window)
        terminal.result(str(path))


@dataclass(frozen=True)
class Work:
    """The shared part of the scans of a command, or of a session: one model, loaded once.

    Attributes:
        choice: why this model denoises the scan at hand; None if it was named.
    """

    request: DenoiseRequest
    model: Model
    predictor: Predictor
    started: Runtime
    odd: list[str]  # warnings about the model, for the sidecars
    terminal: Terminal
    choice: NetworkChoice | None = None

    @classmethod
    def begin(cls, request: DenoiseRequest, model: Model, terminal: Terminal) -> Work:
        """Imports TensorFlow and loads the network."""
        folder = model.run.folder
        terminal.say(f"Model: {folder}, step {model.step:,}")
        harmful = harm(model.run, model.step)
        if harmful:
            terminal.warn(f"{folder}: {harmful}")
        started = runtime.start_inference(request.devices, request.precision, request.xla)
        if started.replicas > 1:
            terminal.warn(
                f"--devices {request.devices}: only the first one is used. Several compute if each "
                "has a command of its own, with a part of the scans"
            )
        predictor = _predictor(model, request, started)
        odd = [f"the model {harmful}"] if harmful else []
        return cls(request, model, predictor, started, odd, terminal)

    def chosen(self, choice: NetworkChoice) -> Work:
        """The work on a scan for which the model was chosen."""
        request = self.request
        if not choice.helps:
            request = replace(request, settings=replace(request.settings, strength=0.0))
        return replace(self, request=request, choice=choice)

    def denoise(self, scans: list[Scan], slices: Slices, check: Callable[[], None]) -> Denoised:
        """Denoises one scan, with the second scan if that is the prior.

        Args:
            scans: the scan, and the second one if any.
            slices: shows the progress.
            check: is called after each tile.
        """
        scan, second = scans[0], scans[1] if len(scans) > 1 else None
        request = self.request
        self.terminal.detail(plan_in_words(scan, self.model, request.settings))
        tiles = plan_for(scan, self.model.recipe, request.settings)
        with slices.scan(scan.path.name, scan.shape[0], tiles.count) as at:

            def tick(done: int) -> None:
                at(done)
                check()

            denoised = denoise(scan, self.model, self.predictor, request.settings, tick, second)
        if self.predictor.compiles(tiles):
            denoised.about["xla"] = True
        if denoised.rounding:
            self.terminal.say(f"{scan.path.name}: {denoised.rounding}")
        return denoised

    def write(self, denoised: Denoised, output: Output, tally: Tally, *, overwrite: bool) -> None:
        """Writes the files of a scan and shows their paths."""
        scan, request, path = denoised.scan, self.request, output.path
        # Warnings about the input and the model were shown before.
        warnings = denoised.about["warnings"]
        found = tuple(words for words in warnings if words not in scan.warnings)
        denoised.about.update(self.facts(denoised))
        with tally.noted(scan.path):
            for written in write(denoised, path, residual=request.residual, overwrite=overwrite):
                self.terminal.result(str(written))
            for picture in output.pictures:
                _draw(denoised, output, picture, self.model.recipe.window)
                self.terminal.result(str(picture))
            self.terminal.warn_once({path: found})
            tally.done += 1

    def facts(self, denoised: Denoised) -> dict[str, Any]:
        """The content of the sidecar of a scan, without the hashes of its files."""
        made = sidecar.made(self.started, reproducible=self.request.settings.reproducible)
        about, warnings = denoised.about, [*self.odd, *denoised.about["warnings"]]
        if self.choice is None:
            return {**about, **made, "warnings": warnings}
        chosen = {"network_choice": self.choice.about()}
        return {**about, **chosen, **made, "warnings": [*self.choice.warnings(), *warnings]}


class Works:
    """The work with each model of a command, begun with the first scan that needs the model.

    Args:
        request: of the command.
        models: those that it chooses from; one if the command names it.
        terminal: shows messages.

    Attributes:
        begun: the work by the name of its run folder.
    """

    def __init__(self, request: DenoiseRequest, models: list[Model], terminal: Terminal) -> None:
        self._request, self._terminal = request, terminal
        self._models = {model.run.folder.name: model for model in models}
        self.begun: dict[str, Work] = {}

    def of(self, scan: Scan) -> Work:
        """The work on a scan in memory."""
        if self._request.run is not None:
            (name,) = self._models
            return self._begun(name)
        choice = choose_network(scan)
        self._terminal.say(f"{scan.path.name}: {choice}")
        self._terminal.warn_once({scan.path: choice.warnings()})
        return self._begun(choice.network).chosen(choice)

    def _begun(self, name: str) -> Work:
        if name not in self.begun:
            self.begun[name] = Work.begin(self._request, self._models[name], self._terminal)
        return self.begun[name]


def _draw(denoised: Denoised, output: Output, path: Path, window: Window) -> None:
    """Draws the picture or writes the page."""
    (write_page if path == output.page else draw_planes)(denoised, path, window)
