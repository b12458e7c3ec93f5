"""`engine degrade`: writes scans with simulated noise, low dose or sparse views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import runtime
from engine.errors import BadInput, BadUsage
from engine.output_paths import (
    is_scan_name,
    make_place,
    output_paths,
    refuse_existing,
    refuse_inputs,
    refuse_other_file,
    refuse_twice,
    sidecar_path,
)
from engine.simulation.degradation import Degradation
from engine.simulation.degraded_file import Product
from engine.simulation.slicewise import make
from engine.terminal import Terminal
from volumes import nifti
from volumes.dataset import Case, case_name, find_cases
from volumes.nifti import Scan
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.sampling.additive_noise import AdditiveNoise
from volumes.storage.atomic import make_folder
from volumes.tomography.scanner import pixel_mm


@dataclass(frozen=True)
class DegradeRequest:
    """The arguments of `engine degrade`, also for the Python API.

    Attributes:
        scans: NIfTI files, or folders of cases.
        degradations: to simulate on each scan.
        seed: of the noise, beside case and slice.
        output: a file for one scan, else a folder; None writes beside each scan.
        overwrite: whether existing files are replaced.
        devices: for the simulated scanner.
        reading: options for reading scans.
    """

    scans: tuple[Path, ...]
    degradations: tuple[Degradation, ...]
    seed: int = 0
    output: Path | None = None
    overwrite: bool = False
    devices: str = "auto"
    reading: ReadOptions = STRICT


@dataclass(frozen=True)
class _Task:
    """A scan and the files to make of it."""

    case: str
    scan: Scan
    products: list[Product]


def degrade(path: Path, output: Path, noise: AdditiveNoise, seed: int, *, overwrite: bool) -> int:
    """Adds white or coloured noise to a scan; padding and header are unchanged.

    Sigma is a fraction of the reference's window, [-1000, 400] HU; nothing is clipped to it. The
    noise depends on (seed, case, slice).

    Returns:
        The number of voxels that the file's datatype saturates.

    Raises:
        BadInput: if the scan cannot be read.
        CannotWrite: if the output exists or cannot be written.
    """
    refuse_existing((output, sidecar_path(output)), overwrite=overwrite)
    product = Product(output, Degradation(output.name, noise.name, noise))
    scan = nifti.open_scan(path).loaded()
    (counts,) = make(scan, case_name(path), [product], seed, {}, overwrite=overwrite)
    return counts["saturated"]


def degrade_scans(request: DegradeRequest, terminal: Terminal) -> None:
    """Degrades scans. All input is checked before TensorFlow is imported.

    One degradation of files is written beside each file, or to `-o`. Several degradations, or those
    of a folder of cases, are written as a folder of cases: OUT/<case>/imaging.nii.gz is the clean
    reference, OUT/<case>/<degradation>.nii.gz is beside it. In such a folder finished files are
    kept.

    Raises:
        Refusal: of the kind that the exit code of the contract names.
    """
    runtime.check(request.devices, "auto", "auto")
    inputs = request.scans
    many = len(request.degradations) > 1 or any(path.is_dir() for path in inputs)
    tasks = _folder(request, inputs, terminal) if many else _files(request, inputs)
    scanner = any(d.acquisition for d in request.degradations)
    if scanner:
        for task in tasks:
            pixel_mm(task.scan)
    waiting = [_unfinished(task, request.seed) if many and not request.overwrite else task.products
               for task in tasks]  # fmt: skip
    # All scans are checked first, because hours may pass before the last one is read.
    check = Scan.loaded if sum(map(bool, waiting)) == 1 else Scan.verified
    tasks = [
        replace(task, scan=check(task.scan)) if products else task
        for task, products in zip(tasks, waiting, strict=True)
    ]
    if many:
        for task in tasks:
            make_folder(task.products[0].path.parent)
    else:
        make_place(request.output, [product.path for task in tasks for product in task.products])
    machine: dict[str, Any] = {}
    if scanner and any(waiting):
        machine = {
            name: runtime.start(request.devices).about[name] for name in ("tensorflow", "devices")
        }
        terminal.say(f"Scanning on {', '.join(machine['devices'])}")
    for number, (task, products) in enumerate(zip(tasks, waiting, strict=True), 1):
        title = f"{task.case} ({number} of {len(tasks)})"
        with terminal.progress(title, task.scan.shape[0]) as bar:
            _one(task, products, request, machine, terminal, bar.at)


def _files(request: DegradeRequest, inputs: Sequence[Path]) -> list[_Task]:
    (degradation,) = request.degradations
    paths = output_paths(inputs, request.output, f"_{degradation.name}")
    refuse_existing([*paths, *map(sidecar_path, paths)], overwrite=request.overwrite)
    return [
        _Task(
            case_name(source),
            nifti.open_scan(source, request.reading),
            [Product(path, degradation)],
        )
        for source, path in zip(inputs, paths, strict=True)
    ]


def _folder(request: DegradeRequest, inputs: Sequence[Path], terminal: Terminal) -> list[_Task]:
    if request.output is None or is_scan_name(request.output):
        cause = "must be a folder for several degradations, or for a folder of cases"
        raise BadUsage("-o", cause, "Write such as -o degraded/")
    refuse_other_file(request.output)
    cases = [case for path in inputs for case in _cases(path, request, terminal)]
    circle = request.degradations[0].acquisition is not None
    tasks = []
    for case in cases:
        scan, folder = case.open(), request.output / case.name
        if not isinstance(scan, Scan):
            raise BadInput(case.path, "is a photograph", "Name scans")
        products = [Product(folder / "imaging.nii.gz", None, circle)]
        products += [Product(folder / f"{d.name}.nii.gz", d) for d in request.degradations]
        tasks.append(_Task(case.name, scan, products))
    paths = [product.path for task in tasks for product in task.products]
    refuse_twice(paths)
    refuse_inputs([*paths, *map(sidecar_path, paths)], [case.path for case in cases])
    return tasks


def _cases(path: Path, request: DegradeRequest, terminal: Terminal) -> list[Case]:
    if path.is_dir():
        return find_cases(path, trust=request.reading, listener=terminal)
    return [Case(case_name(path), path, trust=request.reading)]


def _unfinished(task: _Task, seed: int) -> list[Product]:
    """The products that do not exist yet."""
    paths = [product.path for product in task.products]
    if not any(path.exists() for path in [*paths, *map(sidecar_path, paths)]):
        return task.products  # without reading the source for its hash
    key = {"seed": seed, "case": task.case, **task.scan.source()}
    return [product for product in task.products if not product.is_finished(task.scan, key)]


def _one(
    task: _Task, products: list[Product], request: DegradeRequest, machine: dict[str, Any],
    terminal: Terminal, tick: Callable[[int], None],
) -> None:  # fmt: skip
    kept = len(task.products) - len(products)
    if kept:
        terminal.say(f"{task.case}: {kept} of {len(task.products)} files are finished, and kept")
    if products:
        terminal.warn_once({task.scan.path: task.scan.warnings})
        counts = make(
            task.scan,
            task.case,
            products,
            request.seed,
            machine,
            overwrite=request.overwrite,
            tick=tick,
        )
        for product, count in zip(products, counts, strict=True):
            if count["saturated"]:
                voxels = f"{count['saturated']:,} voxels were"
                terminal.warn(f"{product.path}: {voxels} saturated by the file's datatype")
            if count["floored"]:
                rays = f"{count['starved']:,} of {count['rays']:,} rays met no photon"
                raised = f"{count['floored']:,} readings were raised to the floor"
                terminal.warn(f"{product.path}: {rays}, {raised}")
    for product in task.products:
        terminal.result(str(product.path))
