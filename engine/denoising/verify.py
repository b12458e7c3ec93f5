"""Verifying: whether a denoised scan is what its sidecar says.

TensorFlow is imported only where the network is to be applied again.
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
from volumes.nifti import Scan
from volumes.nifti.deidentify import cleared
from volumes.nifti.read_options import ReadOptions
from volumes.padding import padding_of

_REMEDY = "Denoise the scan again"
# Files are judged by their hashes here: what was taken on trust when they were read is no matter.
_HASHED = ReadOptions(hu=True, checksum=True, gib=math.inf)


def verify(
    path: Path, run: Run | None, source: Path | None, again: Repetition | None = None
) -> Iterator[str]:
    """Checks one thing after the other; what could not be checked is said, too.

    Args:
        path: of the denoised scan; its sidecar lies beside it.
        run: that it should be of; None leaves that open.
        source: the scan that was denoised; None looks for it beside the output.
        again: how the network is applied again, if it is.

    Yields:
        What was found to be so, a line each.

    Raises:
        BadInput: where a file is not the one that the sidecar speaks of, or not what the network
            gives.
        BadUsage: where the network is to be applied again and the model is not named, or the second
            scan does not fit.
        Mismatch: where the model is another.
    """
    if again is not None and run is None:
        raise BadUsage("--again", "applies no model", "Name it by --model")
    scan = nifti.open_scan(path, _HASHED)
    said = sidecar.read(path)
    _refuse_other(path, said["output_sha256"], "altered since it was written")
    yield f"output: as it was written, sha256 {said['output_sha256']}"
    residual = beside(path, "_residual")
    if "residual_sha256" in said and residual.exists():
        _refuse_other(residual, said["residual_sha256"], "altered since it was written")
        yield "residual: as it was written"
    elif "residual_sha256" in said:
        yield f"residual: not checked, {residual.name} is not there"
    source = source or _beside(path)
    denoised = None
    if source is None:
        if again is not None:
            raise BadInput(
                path, "lies without its input, which --again needs", "Name it by --input"
            )
        yield "input: not checked, name it by --input"
        yield "kept voxels: not checked without the input"
    else:
        volume = said.get("input_volume")
        trust = replace(_HASHED, volume=volume if type(volume) is int else None)
        denoised = nifti.open_scan(source, trust)
        _refuse_unlike(
            source,
            denoised.sha256(),
            said.get("input_sha256"),
            "another file than the scan denoised",
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
    yield "options, versions, machine and time: not checked, the sidecar alone tells them"
    yield sidecar.NOTICE


def _beside(path: Path) -> Path | None:
    """The input where `denoise` finds it without -o."""
    place = beside(path, "")
    return place if place != path and place.exists() else None


def _refuse_other(path: Path, recorded: Any, what: str) -> None:
    _refuse_unlike(path, sidecar.content(path), recorded, what)


def _refuse_unlike(path: Path, found: str, recorded: Any, what: str) -> None:
    if found != recorded:
        raise BadInput(path, f"is {what}: its sha256 is {found}, not {recorded}", _REMEDY)


def _compared(source: Scan, scan: Scan, said: dict[str, Any]) -> Iterator[str]:
    """What input and output tell of each other."""
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
    told = said.get("voxels")
    for name, count in counts.items():
        if not isinstance(told, dict) or told.get(name) != count:
            cause = f"counts other voxels ({name}) than the {count:,} that input and output give"
            raise BadInput(sidecar_path(scan.path), cause, _REMEDY)
    yield f"voxels: {counts['changed']:,} of {counts['total']:,} differ, as counted"
    described, found = said.get("residual"), describe_residual(source, before, after, mask)
    if not isinstance(described, dict) or not alike(described, found):
        cause = "describes another residual than input and output give"
        raise BadInput(sidecar_path(scan.path), cause, _REMEDY)
    warned, due = said.get("warnings"), leak_warnings(found)
    for words in due:
        if not isinstance(warned, list) or words not in warned:
            raise BadInput(sidecar_path(scan.path), f"does not warn that {words}", _REMEDY)
    yield "leakage: as described" + (", and warned of" if due else "")


def _code(said: dict[str, Any]) -> str:
    """Whether this program made it: another one may have, and rightly."""
    made, own = said.get("code_sha256"), code_sha256()
    if made is None or own is None:
        return "code: not checked, its hash is not known"
    if made == own:
        return f"code: this program's, sha256 {own}"
    return f"code: another version of the program, sha256 {made}"


def _model(run: Run, said: dict[str, Any]) -> Model:
    """The checkpoint of a run that is the model, and its recipe the recipe.

    Raises:
        Mismatch: where none is.
    """
    told = said.get("model")
    told = told if isinstance(told, dict) else {}
    model = open_model(run, str(told.get("step")))
    found = sidecar.origin(model)
    remedy = "Name the run that the scan was denoised with"
    if found["model"] != told:
        raise Mismatch(model.path, f"holds other weights, sha256 {model.sha256}", remedy)
    if found["recipe_sha256"] != said.get("recipe_sha256") or found["recipe"] != said.get("recipe"):
        raise Mismatch(run.folder / "recipe.json", "is another recipe", remedy)
    return model
