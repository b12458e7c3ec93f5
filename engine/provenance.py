"""Provenance: what the sidecar of a denoised scan says of where it comes from, in hashes.

A sidecar travels with its scan. It names no path, machine or person, and nothing of the header's
free text: who has the files finds them by their hashes.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine import __version__
from engine.changes import MAY_CHANGE
from engine.estimated import Estimated
from engine.model import Model
from engine.outputs import sidecar
from engine.recipe import to_json
from engine.refusals import BadInput
from engine.runtime import Runtime
from volumes import document
from volumes.digest import sha256

NOTICE = "research use, not a medical device"
_PACKAGES = ("engine", "volumes")
_LIBRARIES = ("numpy", "scipy", "nibabel")


def origin(model: Model) -> dict[str, Any]:
    """The model, and its recipe but for how long it was trained.

    The network behind a prior is named by its weights.
    """
    recipe = {
        name: value
        for name, value in json.loads(to_json(model.recipe)).items()
        if name not in MAY_CHANGE
    }
    if model.recipe.prior is not None and isinstance(model.recipe.prior.of, Estimated):
        from engine.prior import model_of

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


@cache
def code() -> str | None:
    """The sha256 of the program's own files, by their names; None where it was installed without.

    A version alone does not tell two commits apart.
    """
    root = Path(__file__).parents[1]
    files = sorted(path for name in _PACKAGES for path in (root / name).rglob("*.py"))
    found = hashlib.sha256()
    for path in files:
        found.update(f"{path.relative_to(root).as_posix()} {sha256(path)}\n".encode())
    return found.hexdigest() if files else None


def content(path: Path) -> str:
    """The sha256 of a file.

    Raises:
        BadInput: where it cannot be read.
    """
    try:
        return sha256(path)
    except OSError as error:
        cause = f"cannot be read: {error.strerror or error}"
        raise BadInput(path, cause, "Check its name and your rights") from error


def made(started: Runtime, *, reproducible: bool) -> dict[str, Any]:
    """With what, when and on what machine; the last two are left out of what is reproducible."""
    framework = {name: started.about[name] for name in ("tensorflow", "keras")}
    libraries = {name: version(name) for name in _LIBRARIES}
    about: dict[str, Any] = {
        "versions": {"engine": __version__, **framework, **libraries},
        "code_sha256": code(),
        "precision": "float32",  # whatever it was trained in
    }
    if not reproducible:
        machine = ("devices", "threads", "onednn")
        about["machine"] = {name: started.about[name] for name in machine}
        now = datetime.datetime.now(datetime.UTC)
        about["time"] = now.isoformat(timespec="seconds")
    return about


def read(path: Path) -> dict[str, Any]:
    """What the sidecar of a denoised scan says.

    Args:
        path: of the scan.

    Raises:
        BadInput: where there is none, or it is not one of a denoised scan.
    """
    place = sidecar(path)
    try:
        content = document.read(place)
    except FileNotFoundError as error:
        cause = f"has no {place.name} beside it that says where it comes from"
        raise BadInput(path, cause, "Bring it back, or denoise the scan again") from error
    except (OSError, ValueError) as error:
        raise BadInput(place, f"is damaged: {error}", "Denoise the scan again") from error
    if not isinstance(content, dict) or not isinstance(content.get("output_sha256"), str):
        cause = "is not the sidecar of a denoised scan"
        raise BadInput(place, cause, "Denoise the scan again")
    return content


def is_sidecar(place: Path) -> bool:
    """Whether a file is the sidecar of a denoised scan, and not what another program has noted."""
    return _noted(place) is not None


def is_of(path: Path) -> bool:
    """Whether a scan is the one that the sidecar beside it speaks of: names alone may deceive.

    Raises:
        BadInput: where it cannot be read.
    """
    said = _noted(sidecar(path))
    return said is not None and said.get("output_sha256") == content(path)


def _noted(place: Path) -> dict[str, Any] | None:
    try:
        said = document.read(place)
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and said.get("notice") == NOTICE else None
