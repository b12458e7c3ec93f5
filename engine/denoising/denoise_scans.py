"""`engine denoise`: checks, denoises and writes the scans of one command."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from engine import runtime
from engine.denoising import sidecar
from engine.denoising.batch import SliceProgress, Tally, scans_in_words
from engine.denoising.denoise import Denoised, check_settings, second_scan
from engine.denoising.denoise_request import DenoiseRequest
from engine.denoising.earlier import Earlier, EarlierOutputs
from engine.denoising.network_choice import SCANNER, WHITE
from engine.denoising.outputs import Output, make_places, outputs_of, without_outputs
from engine.denoising.pipeline import Ahead, Behind, Worker
from engine.denoising.plans import show_plans
from engine.denoising.scan_files import scan_files
from engine.denoising.shared_memory import SharedMemory
from engine.denoising.work import Works, draw, predictor_of
from engine.output_paths import exists, named
from engine.runs.run import named_run
from engine.runs.trained_model import Model, open_model
from engine.terminal import Terminal
from volumes import nifti
from volumes.dicom import open_ct
from volumes.nifti import Scan
from volumes.nifti.read_options import ReadOptions
from volumes.storage.atomic import remove_orphans


def denoise_scans(request: DenoiseRequest, terminal: Terminal) -> None:
    """Denoises scans. TensorFlow is imported once the first of them has been read and checked.

    All headers are checked first. The voxels of a scan are read once, while the one before it is
    denoised. A scan that cannot be denoised does not stop the others; an error at the end counts
    such scans. An error in the command, the model or an output path stops all.

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
    model = models[0]  # those that ship are cut into the same tiles, and take no dose
    check_settings(request.settings, model.recipe)
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
        SliceProgress.of(depths, terminal) as slices,
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
        predictor = predictor_of(model, request, started) if request.timed else None
    show_plans(
        scans, model, request.settings, terminal, predictor=predictor, residual=request.residual
    )


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
        draw(denoised, output, path, model.recipe.window)
        terminal.result(str(path))
