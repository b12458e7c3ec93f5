"""Denoising of one scan, as `engine denoise` does it."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

from engine.api.denoiser import (
    Array,
    DenoiseOptions,
    DenoiseResult,
    is_array,
    load,
    opened,
)
from engine.denoising import sidecar
from engine.denoising.denoise import Denoised, DenoiseSettings
from engine.denoising.denoise_request import DenoiseRequest
from engine.denoising.denoise_scans import denoise_scans
from engine.denoising.network_choice import SCANNER, choose_network
from engine.denoising.outputs import outputs_of
from engine.errors import BadUsage
from engine.runs.run import named_run
from engine.terminal import Terminal
from volumes import nifti
from volumes.nifti.read_options import ReadOptions
from volumes.volume import Shape, SpacingMm

if TYPE_CHECKING:
    from volumes.nifti import NiftiImage


class NetworkOptions(DenoiseOptions, total=False):
    """The options of denoising, with those that choose the network and how it computes."""

    model: str | Path | None
    checkpoint: str | int
    devices: str
    precision: str
    xla: str
    run_code: bool
    quiet: bool


class FileOptions(NetworkOptions, total=False):
    """The options of denoising into a file."""

    preview: str | Path | None
    save_residual: bool
    overwrite: bool


@overload
def denoise(scan: Array, **options: Unpack[NetworkOptions]) -> DenoiseResult[Array]: ...
@overload
def denoise(
    scan: str | Path, *, output: str | Path, **options: Unpack[FileOptions]
) -> DenoiseResult[Path]: ...
@overload
def denoise(
    scan: str | Path | NiftiImage, **options: Unpack[NetworkOptions]
) -> DenoiseResult[NiftiImage]: ...
def denoise(
    scan: Any,
    *,
    model: str | Path | None = None,
    checkpoint: str | int = "best",
    output: str | Path | None = None,
    spacing_mm: SpacingMm | None = None,
    prior: str | Path | Array | NiftiImage | None = None,
    tile: Shape | None = None,
    strength: float = 1.0,
    photons: float | None = None,
    reproducible: bool = False,
    strip_phi: bool = False,
    preview: str | Path | None = None,
    save_residual: bool = False,
    overwrite: bool = False,
    devices: str = "auto",
    precision: str = "auto",
    xla: str = "auto",
    run_code: bool = False,
    assume_hu: bool = False,
    poses: bool = False,
    quiet: bool = False,
) -> DenoiseResult[Any]:
    """Denoises a scan.

    An array gives an array, and an image of nibabel gives an image. A path gives an image, and
    nothing is written; with `output` it gives the files that `engine denoise` writes, and their
    path. For many scans, load the network once with `engine.load`.

    Args:
        scan: an array in HU (Z, Y, X), an image of nibabel, or the path of a NIfTI file, as in
            `Denoiser.denoise`.
        model: run folder, or the name of a network that ships; None chooses one of these by the
            noise of the scan.
        checkpoint: "best", "last" or a step.
        output: file or folder of the result. Only a path can have one.
        spacing_mm: of an array.
        prior: a second scan on the same grid; a path, if an output is named.
        tile: as in `Denoiser.denoise`; so are `strength`, `photons`, `reproducible`, `strip_phi`
            and `assume_hu`.
        strength: 0 returns the input.
        photons: a ray, of the scan.
        reproducible: no time and no machine in the facts.
        strip_phi: clear free text of the header.
        preview: PNG of the middle planes, beside an output.
        save_residual: also write input - output, beside an output.
        overwrite: replace an existing output.
        devices: as in `engine.load`; so are `precision`, `xla` and `quiet`.
        precision: of the inner layers.
        xla: auto, on or off.
        run_code: as in `engine.load`.
        assume_hu: accept values that do not look like HU.
        poses: average the estimates of the turned and mirrored slices.
        quiet: show only warnings.

    Raises:
        Refusal: as `engine denoise`, in the same words.

    Example:
        >>> import engine
        >>> scan = "phantoms/case_00000/imaging.nii.gz"
        >>> result = engine.denoise(scan, model="runs/unet3d", quiet=True)
        >>> result.output.shape, result.facts["voxels"]["total"]
        ((12, 48, 48), 27648)
        >>> engine.denoise(scan, model="runs/unet3d", output="denoised.nii.gz", quiet=True).output
        PosixPath('denoised.nii.gz')
    """
    if output is None:
        for name, value in (("preview", preview), ("save_residual", save_residual),
                            ("overwrite", overwrite)):  # fmt: skip
            if value:
                raise BadUsage(name, "has no effect without an output", "Name an output")
        options = ReadOptions(hu=assume_hu)
        source = opened(scan, spacing_mm, options)
        choice = None if model is not None else choose_network(source)
        loaded = load(
            choice.network if choice else model, checkpoint=checkpoint, devices=devices,
            precision=precision, xla=xla, run_code=run_code, quiet=quiet,
        )  # fmt: skip
        settings = DenoiseSettings(None, tile, strength, photons, reproducible, strip_phi,
                                   poses=poses)  # fmt: skip
        second = None if prior is None else opened(prior, spacing_mm, options)
        return loaded.applied(source, settings, second, choice, array=is_array(scan))
    path = _file(scan, "an output")
    if spacing_mm is not None:
        raise BadUsage("spacing_mm", f"is given, but {path} has its own", "Leave it out")
    settings = DenoiseSettings(
        None if prior is None else _file(prior, "an output, as its prior"), tile, strength,
        photons, reproducible, strip_phi, poses=poses,
    )  # fmt: skip
    drawn = None if preview is None else Path(preview)
    request = DenoiseRequest(
        (path,), None if model is None else named_run(model, run_code), str(checkpoint), settings,
        Path(output), preview=drawn, residual=save_residual, overwrite=overwrite,
        devices=devices, precision=precision, xla=xla, reading=ReadOptions(hu=assume_hu),
    )  # fmt: skip
    denoise_scans(request, Terminal(quiet=quiet, results=False))
    (place,) = outputs_of((path,), Path(output), drawn, residual=save_residual, several=False)
    facts = sidecar.read(place.path)

    @cache
    def written() -> Denoised:
        options = ReadOptions(hu=True, gib=math.inf)
        before, after = (nifti.open_scan(each, options) for each in (path, place.path))
        return Denoised(before, before.read(), after.read(), facts)

    run = request.run or named_run(SCANNER)  # those that ship have one window
    return DenoiseResult(place.path, facts, written, run.recipe().window)


def _file(scan: Any, what: str) -> Path:
    if not isinstance(scan, str | os.PathLike):
        raise BadUsage("output", "is named, but the scan is no file", f"Only a file has {what}")
    if os.path.isdir(scan):
        remedy = "Name one scan, or use the command `engine denoise`"
        raise BadUsage(Path(scan), "is a folder", remedy)
    return Path(scan)
