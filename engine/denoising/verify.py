"""Verification: checks a denoised scan against its sidecar, its input and its model.

TensorFlow is imported only if the network is applied again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.denoising import sidecar
from engine.denoising.rerun import Repetition, repeated
from engine.errors import BadInput, BadUsage, Mismatch
from engine.output_paths import beside, sidecar_path
from engine.runs.run import Run
from engine.runs.trained_model import Model, open_model
from engine.runtime import code_sha256
from engine.scoring.residual import alike, describe_residual, leak_warnings
from volumes import nifti
from volumes.dicom import open_ct
from volumes.nifti import Scan
from volumes.nifti.deidentify import cleared
from volumes.nifti.read_options import ReadOptions
from volumes.padding import padding_of

_REMEDY = "Denoise the scan again"
# Files are compared by their hashes, so any reading option is accepted.
_HASHED = ReadOptions(hu=True, checksum=True, gib=math.inf)


def verify(
    path: Path, run: Run | None, source: Path | None, again: Repetition | None = None
) -> Iterator[str]:
    """Checks a denoised scan, and lists what could not be checked.

    Args:
        path: of the denoised scan, with its sidecar beside it.
        run: the run folder of its model; None skips this check.
        source: the scan that was denoised; None looks for it beside the output.
        again: options for applying the network again; None skips this check.

    Yields:
        One line for each check.

    Raises:
        BadInput: if a file does not match the sidecar, or the network's output.
        BadUsage: if the network is applied again but no model is named, or the second scan is
            missing or given, contrary to the sidecar.
        Mismatch: if the model is another.
    """
    if again is not None and run is None:
        raise BadUsage("--again", "needs a model", "Name it by --model")
    scan = nifti.open_scan(path, _HASHED)
    said = sidecar.read(path)
    _refuse_other(path, said["output_sha256"], "altered since it was written")
    yield f"output: as it was written, sha256 {said['output_sha256']}"
    residual = beside(path, "_residual")
    if "residual_sha256" in said and residual.exists():
        _refuse_other(residual, said["residual_sha256"], "altered since it was written")
        yield "residual: as it was written"
    elif "residual_sha256" in said:
        yield f"residual: not checked, {residual.name} does not exist"
    source = source or _beside(path)
    denoised = None
    if source is None:
        if again is not None:
            raise BadInput(
                path, "has no input beside it, which --again needs", "Name it by --input"
            )
        yield "input: not checked, name it by --input"
        yield "kept voxels: not checked without the input"
    else:
        denoised = open_ct(source, _input_options(said))
        _refuse_unlike(
            source,
            denoised.sha256(),
            said.get("input_sha256"),
            "not the scan that was denoised",
        )
        yield f"input: the scan that was denoised, sha256 {said['input_sha256']}"
        yield from _compared(denoised, scan, said)
    model = None
    if run is None:
        yield "model: not checked, name it by --model"
    else:
        model = _model(run, said)
        yield f"model: step {model.step:,}, sha256 {model.sha256}"
    yield _code(said)
    if again is None or denoised is None or model is None:
        yield "estimate: not checked, ask for it by --again"
    else:
        yield f"estimate: {repeated(again, denoised, scan, said, model)}"
    yield "options, versions, machine and time: not checked, only the sidecar contains them"
    yield sidecar.NOTICE


def _input_options(said: dict[str, Any]) -> ReadOptions:
    """The options with which the input was read, if they are valid."""
    volume, axes = said.get("input_volume"), said.get("input_axes")
    named = axes if isinstance(axes, str) and sorted(axes) == ["X", "Y", "Z"] else None
    return replace(_HASHED, volume=volume if type(volume) is int else None, axes=named)


def _beside(path: Path) -> Path | None:
    """The input beside the output, where it is without -o."""
    place = beside(path, "")
    return place if place != path and place.exists() else None


def _refuse_other(path: Path, recorded: Any, what: str) -> None:
    _refuse_unlike(path, sidecar.content(path), recorded, what)


def _refuse_unlike(path: Path, found: str, recorded: Any, what: str) -> None:
    if found != recorded:
        raise BadInput(path, f"is {what}: its sha256 is {found}, not {recorded}", _REMEDY)


def _compared(source: Scan, scan: Scan, said: dict[str, Any]) -> Iterator[str]:
    """Compares header, padding, voxels and residual of input and output."""
    stripped = said.get("header") == "free text cleared"
    if scan.head != (cleared(source.head) if stripped else source.head):
        raise BadInput(scan.path, "has another header than its input", _REMEDY)
    yield "header: the input's" + (", its free text cleared" if stripped else " to the byte")
    stored, became = source.read(), scan.read()
    before, after = source.canonical(stored), source.canonical(became)
    mask = padding_of(source.hu, before)
    if not np.array_equal(nifti.bits(before[mask]), nifti.bits(after[mask])):
        raise BadInput(scan.path, "has padding that is not its input's", _REMEDY)
    yield f"padding: {np.count_nonzero(mask):,} voxels, the input's to the bit"
    counts = {
        "total": int(mask.size),
        "padding": int(np.count_nonzero(mask)),
        "changed": int(np.count_nonzero(nifti.bits(stored) != nifti.bits(became))),
    }
    recorded = said.get("voxels")
    for name, count in counts.items():
        if not isinstance(recorded, dict) or recorded.get(name) != count:
            cause = f"has a wrong count of voxels ({name}): input and output give {count:,}"
            raise BadInput(sidecar_path(scan.path), cause, _REMEDY)
    yield f"voxels: {counts['changed']:,} of {counts['total']:,} differ, as counted"
    described, found = said.get("residual"), describe_residual(source, before, after, mask)
    if not isinstance(described, dict) or not alike(described, found):
        cause = "describes another residual than that of input and output"
        raise BadInput(sidecar_path(scan.path), cause, _REMEDY)
    warned, due = said.get("warnings"), leak_warnings(found)
    for words in due:
        if not isinstance(warned, list) or words not in warned:
            raise BadInput(sidecar_path(scan.path), f"does not warn that {words}", _REMEDY)
    yield "leakage: as described" + (", with its warnings" if due else "")


def _code(said: dict[str, Any]) -> str:
    """Whether the same code wrote the scan. Another version is no error."""
    made, own = said.get("code_sha256"), code_sha256()
    if made is None or own is None:
        return "code: not checked, its hash is unknown"
    if made == own:
        return f"code: this program's, sha256 {own}"
    return f"code: another version of the program, sha256 {made}"


def _model(run: Run, said: dict[str, Any]) -> Model:
    """The checkpoint of a run that matches model and recipe of a sidecar.

    Raises:
        Mismatch: if there is none.
    """
    recorded = said.get("model")
    recorded = recorded if isinstance(recorded, dict) else {}
    model = open_model(run, str(recorded.get("step")))
    found = sidecar.origin(model)
    remedy = "Name the run that the scan was denoised with"
    if found["model"] != recorded:
        raise Mismatch(model.path, f"holds other weights, sha256 {model.sha256}", remedy)
    if found["recipe_sha256"] != said.get("recipe_sha256") or found["recipe"] != said.get("recipe"):
        raise Mismatch(run.folder / "recipe.json", "is another recipe", remedy)
    return model
