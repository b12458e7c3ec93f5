"""Rerun: denoises a scan again with the settings of its sidecar, and compares the voxels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import runtime
from engine.denoising import sidecar
from engine.denoising.denoise import DenoiseSettings, denoise, plan_for, second_scan
from engine.errors import BadInput, BadUsage
from engine.inference.predictor import Predictor
from engine.output_paths import sidecar_path
from engine.runs.trained_model import Model
from engine.terminal import Terminal
from volumes import nifti
from volumes.nifti import Scan
from volumes.storage import json_files

_STEPS = 1  # steps of an integer datatype: other machines sum in another order and round
_FLOAT_HU = 0.01  # tolerance of a floating-point datatype
_AGAIN = "Denoise the scan again"
_UNCLEAR = "does not say how the scan was denoised"


@dataclass(frozen=True)
class Repetition:
    """Options of a rerun.

    Attributes:
        second: second scan that was the prior, if any.
        devices: to compute on.
        terminal: shows the progress.
    """

    second: Path | None
    devices: str
    terminal: Terminal


def repeated(
    again: Repetition, source: Scan, output: Scan, said: dict[str, Any], model: Model
) -> str:
    """Denoises a scan with the settings of a sidecar, and compares the result.

    Args:
        again: options.
        source: the scan that was denoised.
        output: the denoised scan.
        said: content of its sidecar.
        model: named in the sidecar.

    Returns:
        How the voxels compare, in words.

    Raises:
        BadInput: if the voxels differ by more than rounding, or the sidecar lacks the settings.
        BadUsage: if a second scan is missing or given, contrary to the sidecar.
    """
    request = _request(output.path, said, again.second)
    second = second_scan(source, model.recipe, request.prior)
    if second is not None and second.sha256() != said["second_scan_sha256"]:
        cause = "is not the second scan that was used"
        raise BadInput(second.path, cause, "Name that scan by --prior")
    precision = sidecar.precision_of(said)
    if precision is None:
        raise BadInput(sidecar_path(output.path), _UNCLEAR, _AGAIN)
    # XLA changes the last bits, and on a CPU it is several times slower.
    started = runtime.start_inference(
        again.devices, precision, "auto" if said.get("xla") is True else "off"
    )
    estimator = Predictor.of(
        model, request.photons, precision=precision, xla=started.xla, poses=request.poses
    )
    count = estimator.planned(plan_for(source, model.recipe, request)).count
    with again.terminal.progress("denoising again", count) as bar:
        denoised = denoise(source, model, estimator, request, bar.at, second)
    stored = output.read()
    differing = nifti.bits(stored) != nifti.bits(denoised.after)
    number = np.count_nonzero(differing)
    if not number:
        return "the network gives the same voxels, bit for bit"
    apart_hu = float(
        np.abs(source.hu(stored[differing]) - source.hu(denoised.after[differing])).max()
    )
    differ = "1 voxel differs" if number == 1 else f"{number:,} voxels differ"
    found = f"{differ}, by up to {apart_hu:.3g} HU"
    limit_hu = _STEPS * abs(source.slope) if source.dtype.kind in "iu" else _FLOAT_HU
    if denoised.rounding:  # another device rounds otherwise, by no more than it rounds
        limit_hu += denoised.rounding.largest_hu
    if not apart_hu <= limit_hu * (1 + 1e-6):
        raise BadInput(output.path, f"differs from the network's output: {found}", _AGAIN)
    return f"the network gives the same voxels except for rounding: {found}"


def _request(path: Path, said: dict[str, Any], second: Path | None) -> DenoiseSettings:
    """The settings in a sidecar, if they are valid."""
    strength: Any = said.get("strength")
    photons, tiles, poses = said.get("photons"), said.get("tiles"), said.get("poses", False)
    tile = tiles.get("shape") if isinstance(tiles, dict) else None
    streamed = tiles.get("streamed", False) if isinstance(tiles, dict) else None
    if (
        not json_files.is_number(strength)
        or not (photons is None or json_files.is_number(photons))
        or not (isinstance(tile, list) and all(type(size) is int for size in tile))
        or type(streamed) is not bool
        or type(poses) is not bool
    ):
        raise BadInput(sidecar_path(path), _UNCLEAR, _AGAIN)
    try:
        settings = DenoiseSettings(
            second, tuple(tile), strength, photons, streamed=streamed, poses=poses
        )
    except BadUsage as error:
        raise BadInput(sidecar_path(path), _UNCLEAR, _AGAIN) from error
    had = said.get("second_scan_sha256") is not None
    if had and second is None:
        raise BadUsage("--prior", "was given when the scan was denoised", "Name that second scan")
    if second is not None and not had:
        raise BadUsage("--prior", "was not given when the scan was denoised", "Leave it out")
    return settings
