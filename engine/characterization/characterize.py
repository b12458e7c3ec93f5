"""`engine characterize`: measures noise, resolution, HU and detectability of denoisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import runtime
from engine.comparison.methods import ComparedMethod, resolve_methods
from engine.errors import BadInput, BadUsage
from engine.output_paths import refuse_existing, refuse_file_name
from engine.terminal import Terminal
from volumes import nifti
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.padding import padding_of
from volumes.phantoms.lesions import LESIONS
from volumes.phantoms.quality_phantoms import QUALITY_PHANTOMS
from volumes.storage.atomic import make_folder
from volumes.tomography import ramp_filter
from volumes.tomography.geometry import FanBeam, Parallel
from volumes.tomography.photon_noise import Dose, dose_text
from volumes.tomography.scanner import Scanner, pixel_mm
from volumes.volume import AIR_HU

if TYPE_CHECKING:
    from engine.characterization.measuring import QualityProtocol
    from engine.characterization.quantities import Doses, Found

_LEAST = 16  # realisations: half of fewer cannot train an observer with five channels
_BEAMS = {"fan": FanBeam, "parallel": Parallel}


@dataclass(frozen=True)
class CharacterizeRequest:
    """The arguments of `engine characterize`, also for the Python API.

    Attributes:
        methods: run folders and names of methods, as in `engine evaluate`. The reconstruction is
            always measured, too.
        output: folder of the report.
        doses: photons per ray; the highest is the full dose.
        realisations: of every module at every dose.
        phantom: one of `QUALITY_PHANTOMS`.
        beam: "fan" or "parallel".
        filter: window of the ramp filter, one of `ramp_filter.WINDOWS`.
        pixel_mm: width of the pixels of the phantom.
        scan: a real scan into which lesions are set; None for none.
        slice: of that scan; None for the middle one.
        seed: of all noise.
        checkpoint: of each run: best, last or a step.
        devices: to compute on.
        overwrite: whether an existing report is replaced.
        run_code: whether the code that the runs keep may be run.
        reading: options for reading the scan.
    """

    methods: tuple[str, ...]
    output: Path
    doses: tuple[float, ...] = (1e5, 2e5, 1e6)
    realisations: int = 200
    phantom: str = "catphan"
    beam: str = "fan"
    filter: str = "ram-lak"
    pixel_mm: float = 0.7
    scan: Path | None = None
    slice: int | None = None
    seed: int = 0
    checkpoint: str = "best"
    devices: str = "auto"
    overwrite: bool = False
    run_code: bool = False
    reading: ReadOptions = STRICT


def parse_doses(text: str) -> tuple[float, ...]:
    """Photons per ray from text such as "1e5,2e5,1e6", ascending.

    Raises:
        BadUsage: if a part is no number of photons, or is named twice.

    Example:
        >>> parse_doses("1e6,2e5")
        (200000.0, 1000000.0)
    """
    remedy = "Write photons per ray, such as 1e5,2e5,1e6"
    try:
        doses = [Dose(float(part)).photons for part in text.split(",")]
    except ValueError as error:
        raise BadUsage("--dose", f"takes no {text!r}", remedy) from error
    if len(set(doses)) < len(doses):
        raise BadUsage("--dose", f"names a dose twice: {text!r}", remedy)
    return tuple(sorted(doses))


def characterize(request: CharacterizeRequest, terminal: Terminal) -> None:
    """Measures the methods and writes the report.

    Raises:
        Refusal: of the kind that the exit code of the contract names.
    """
    scanner = _check(request)
    real = _real_slice(request)
    methods = resolve_methods(request.methods, request.checkpoint, run_code=request.run_code)
    _refuse_oracles(methods)
    make_folder(request.output)  # hours may pass before the report is written
    runtime.start_inference(request.devices)
    # They import TensorFlow when they are used, after the arguments were checked.
    from engine.characterization.denoisers import denoisers
    from engine.characterization.measuring import QualityProtocol, measure
    from engine.characterization.quality_report import write_report

    measured = denoisers(methods)
    protocol = QualityProtocol(
        QUALITY_PHANTOMS[request.phantom], scanner, request.pixel_mm, request.doses,
        request.realisations, _lesions(request, real, scanner), request.seed,
    )  # fmt: skip
    found = measure(protocol, measured, terminal.say)
    doses = _equivalent_doses(found)
    settings = {one.label: one.setting for one in measured}
    about = _about(request, protocol, methods, settings, None if real is None else real[2])
    about["reach"] = {label: by_dose[max(by_dose)].reach for label, by_dose in found.items()}
    written = write_report(request.output, about, found, doses)
    _print(found, doses, request, terminal)
    for path in written:
        terminal.result(str(path))


def _check(request: CharacterizeRequest) -> Scanner:
    """The scanner that is asked for; refuses what no file has to be read for.

    Raises:
        BadUsage: if an option has a value that it cannot have.
        CannotWrite: if the report cannot be written where it is wanted.
    """
    for option, value, known in (
        ("--phantom", request.phantom, QUALITY_PHANTOMS),
        ("--beam", request.beam, _BEAMS),
        ("--filter", request.filter, ramp_filter.WINDOWS),
    ):
        if value not in known:
            raise BadUsage(option, f"takes no {value!r}", f"Use one of {', '.join(known)}")
    if request.realisations < _LEAST:
        cause = f"takes {_LEAST} or more, not {request.realisations}"
        raise BadUsage("--realisations", cause, "Use 20 for a quick look, 200 for a statement")
    if not 0.2 <= request.pixel_mm <= 1.5:
        cause = f"takes 0.2 to 1.5 mm, not {request.pixel_mm:g}"
        raise BadUsage("--pixel", cause, "Wider pixels cannot show the rods")
    if request.slice is not None and request.scan is None:
        raise BadUsage("--slice", "names a slice of no scan", "Name the scan with --scan")
    runtime.check(request.devices, "auto", "auto")
    refuse_file_name(request.output, "-o")
    refuse_existing([request.output / "report.json"], overwrite=request.overwrite)
    return Scanner(geometry=_BEAMS[request.beam](), filter=request.filter)


def _refuse_oracles(methods: Sequence[ComparedMethod]) -> None:
    for method in methods:
        if method.is_oracle:
            cause = "is given the clean image, which a scan does not have"
            raise BadUsage(method.label, cause, "Name another prior")


def _real_slice(request: CharacterizeRequest) -> tuple[np.ndarray[Any, Any], float, int] | None:
    """HU of the slice, its pixel width and its index; None without a scan.

    Raises:
        BadInput: if the scan cannot be used.
        BadUsage: if it has no such slice.
    """
    if request.scan is None:
        return None
    scan = nifti.open_scan(request.scan, request.reading)
    width, depth = pixel_mm(scan), scan.shape[0]
    index = depth // 2 if request.slice is None else request.slice
    if not 0 <= index < depth:
        cause = f"is {index}, and the scan has the slices 0 to {depth - 1}"
        raise BadUsage("--slice", cause, "Name one of them")
    voxels = scan.canonical(scan.read())
    hu = np.array(scan.hu(np.ascontiguousarray(voxels[index])), np.float32)
    hu[padding_of(scan.hu, voxels)[index] | ~np.isfinite(hu)] = AIR_HU
    return hu, width, index


def _lesions(
    request: CharacterizeRequest, real: tuple[np.ndarray[Any, Any], float, int] | None,
    scanner: Scanner,
) -> Any:  # fmt: skip
    from engine.characterization.ensembles import lesion_slice

    if real is None or request.scan is None:
        return None
    made = lesion_slice(real[0], real[1], scanner)
    if len(made.lesions) < len(LESIONS):
        cause = f"has room for {len(made.lesions)} of {len(LESIONS)} lesions in slice {real[2]}"
        raise BadInput(request.scan, cause, "Choose a slice through the liver with --slice")
    return made


def _equivalent_doses(found: Found) -> Doses:
    from engine.characterization.dose_equivalence import equivalent_dose
    from engine.characterization.measuring import full_dose
    from engine.characterization.quality_tables import MEAN_OF_LESIONS, MEAN_OF_RODS

    full = full_dose(found)
    groups = {MEAN_OF_RODS: list(full.rods)}
    if full.lesions:
        groups[MEAN_OF_LESIONS] = list(full.lesions)
    groups |= {name: [name] for name in full.detected}
    return {
        (label, group): equivalent_dose(by_dose, full, names)
        for label, by_dose in found.items()
        for group, names in groups.items()
    }


def _about(
    request: CharacterizeRequest, protocol: QualityProtocol, methods: Sequence[ComparedMethod],
    settings: dict[str, str], index: int | None,
) -> dict[str, Any]:  # fmt: skip
    """What a report says of the measurement, as plain data; `index` is that of the real slice."""
    phantom, lesions = protocol.phantom, protocol.lesions
    return {
        "phantom": request.phantom,
        "modules": [
            rods.name for rods in (phantom.contrast, phantom.low_contrast, phantom.uniform)
        ],
        "pixel_mm": request.pixel_mm,
        "doses": list(request.doses),
        "realisations": request.realisations,
        "seed": request.seed,
        "scanner": {
            "geometry": protocol.scanner.geometry.about(),
            "filter": protocol.scanner.filter,
            "mu_water_per_mm": protocol.scanner.mu_water_per_mm,
        },
        "scan": None
        if lesions is None
        else {
            "sha256": nifti.open_scan(request.scan, request.reading).sha256()
            if request.scan
            else "",
            "slice": index,
            "pixel_mm": lesions.absent.pixel_mm,
            "lesions": [rod.name for rod in lesions.lesions],
            "places_mm": [asdict(rod) for rod in lesions.lesions],
        },
        "settings": settings,
        "networks": {
            method.label: [
                {"run": model.run.folder.resolve().name, "step": model.step, "sha256": model.sha256}
                for model in method.behind()
            ]
            for method in methods
            if method.behind()
        },
    }


def _print(found: Found, doses: Doses, request: CharacterizeRequest, terminal: Terminal) -> None:
    from engine.characterization.quality_tables import overview
    from engine.characterization.verdict import about_reaches, about_readers, verdicts

    title = (
        f"{request.phantom}, {request.realisations} realisations, {request.beam} beam, "
        f"{request.filter}; mean AUC over rods; full dose {dose_text(max(request.doses))} photons"
    )
    terminal.table(title, *overview(found, doses))
    for line in (
        *verdicts(found),
        *about_reaches(found),
        about_readers(found, request.realisations),
    ):
        terminal.result(line)
