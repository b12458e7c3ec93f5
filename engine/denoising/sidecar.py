"""Sidecar of a denoised scan: JSON with the hashes of input, output and model.

A sidecar is passed on with its scan. It contains no path, host name or person, and no free text of
the header. Files are identified by their hashes.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine import __version__
from engine.errors import BadInput
from engine.output_paths import sidecar_path
from engine.recipe.serialization import to_json, without_later
from engine.runs.compatibility import MAY_CHANGE
from engine.runs.trained_model import Model
from engine.runtime import PRECISIONS, Runtime, code_sha256
from volumes.storage import digest, json_files

NOTICE = "research use, not a medical device"
FULL_PRECISION = "float32"  # whatever the precision of training
_LIBRARIES = ("numpy", "scipy", "nibabel")


def origin(model: Model) -> dict[str, Any]:
    """The model and its recipe, without the fields that say how long it was trained.

    The network behind a prior is identified by the hash of its weights.
    """
    recipe = {
        name: value
        for name, value in without_later(json.loads(to_json(model.recipe))).items()
        if name not in MAY_CHANGE
    }
    if model.recipe.prior is not None and model.recipe.prior.of.network_run:
        from engine.runs.prior_network import model_of

        behind = model_of(model.recipe.prior.of)
        recipe["prior"]["of"] = {"kind": "Estimated", "sha256": behind.sha256}
    return {
        "model": {
            "sha256": model.sha256,
            "step": model.step,
        },
        "recipe_sha256": hashlib.sha256(json.dumps(recipe).encode()).hexdigest(),
        "recipe": recipe,
    }


def content(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        BadInput: if it cannot be read.
    """
    try:
        return digest.sha256(path)
    except OSError as error:
        cause = f"cannot be read: {error.strerror or error}"
        raise BadInput(path, cause, "Check its name and your rights") from error


def made(started: Runtime, *, reproducible: bool) -> dict[str, Any]:
    """Versions, time and machine; a reproducible sidecar has neither time nor machine."""
    framework = {name: started.about[name] for name in ("tensorflow", "keras")}
    libraries = {name: version(name) for name in _LIBRARIES}
    about: dict[str, Any] = {
        "versions": {"engine": __version__, **framework, **libraries},
        "code_sha256": code_sha256(),
    }
    if not reproducible:
        machine = ("devices", "threads", "onednn")
        about["machine"] = {name: started.about[name] for name in machine}
        now = datetime.datetime.now(datetime.UTC)
        about["time"] = now.isoformat(timespec="seconds")
    return about


def read(path: Path) -> dict[str, Any]:
    """The content of the sidecar of a denoised scan.

    Args:
        path: of the scan.

    Raises:
        BadInput: if there is none, or it is not the sidecar of a denoised scan.
    """
    place = sidecar_path(path)
    try:
        content = json_files.read_json(place)
    except FileNotFoundError as error:
        cause = f"has no sidecar {place.name} beside it"
        raise BadInput(path, cause, "Restore it, or denoise the scan again") from error
    except (OSError, ValueError) as error:
        raise BadInput(place, f"is damaged: {error}", "Denoise the scan again") from error
    if not isinstance(content, dict) or not isinstance(content.get("output_sha256"), str):
        cause = "is not the sidecar of a denoised scan"
        raise BadInput(place, cause, "Denoise the scan again")
    return content


def precision_of(said: dict[str, Any]) -> str | None:
    """The precision that a sidecar names, alone or with its differences; None if it names none."""
    told = said.get("precision")
    if isinstance(told, dict) and told.get("compute") == FULL_PRECISION:
        return None  # float32 differs from nothing
    named = told.get("compute") if isinstance(told, dict) else told
    if named == FULL_PRECISION or (isinstance(told, dict) and named in PRECISIONS[2:]):
        return str(named)
    return None


def is_sidecar(place: Path) -> bool:
    """Whether a file is the sidecar of a denoised scan, not the file of another program."""
    return noted(place) is not None


def is_of(path: Path, sha256: str | None = None) -> bool:
    """Whether the sidecar beside a scan belongs to it, by its hash: names may be misleading.

    Args:
        path: of the scan.
        sha256: of the scan; None reads it.

    Raises:
        BadInput: if it cannot be read.
    """
    said = noted(sidecar_path(path))
    return said is not None and said.get("output_sha256") == (sha256 or content(path))


def noted(place: Path) -> dict[str, Any] | None:
    """The content of the sidecar of a denoised scan; None if the file is something else.

    Args:
        place: of the sidecar.
    """
    try:
        said = json_files.read_json(place)
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and said.get("notice") == NOTICE else None
