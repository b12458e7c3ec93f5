"""Recipes as JSON: plain data that is enough to rebuild a network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine import losses, networks, objectives, schedules
from engine.errors import BadUsage, Mismatch
from engine.recipe import declared, network_prior
from engine.recipe.recipe import Recipe
from volumes import Coloured, Crop, Gaussian, Mixed, NeighbourMean, Recorded, Split, Window
from volumes.sampling.noise import AsScanned
from volumes.sampling.prior_sources import Clean, Noisy, SliceTV, Turned
from volumes.sampling.scanner_noise import LowDose, SparseView
from volumes.storage import json_files
from volumes.tomography.geometry import FanBeam, Parallel
from volumes.tomography.scanner import Scanner

_KINDS = {
    kind.__name__: kind
    for kind in (
        Recipe, Split, Window, Crop, Gaussian, Coloured, Mixed, Recorded, AsScanned,
        NeighbourMean, LowDose, SparseView, Scanner, FanBeam, Parallel,
        Noisy, SliceTV, Clean, Turned, network_prior.Estimated,
        losses.Sum, losses.Term, objectives.Supervised, objectives.NeighbourSlices,
        schedules.Constant, schedules.Cosine, schedules.Piecewise, schedules.WarmUp,
        networks.UNet3D, networks.UNet2D, networks.ResPrUNet, networks.ResidualUNet2D,
        networks.BiasFreeUNet2D, networks.ConvNet3D, networks.ConvNet2D,
        networks.ResNet2D, networks.DnCNN,
    )
}  # fmt: skip


# Fields that earlier versions lacked, with the values that mean the same. They are left out of the
# fingerprint, so that older runs keep theirs.
_LATER: dict[str, dict[str, Any]] = {
    "Recipe": {
        "average": 0.0,
        "validate_at": [],
        "objective": {"kind": "Supervised"},
        "weight_decay": 0.0,
        "accumulate": 1,
        "patience": 0,
    },
    "Gaussian": {"spread": "even"},
}


LOSSES = losses.BY_NAME


def to_json(recipe: Recipe) -> str:
    """The resolved recipe as JSON.

    Raises:
        BadUsage: if it has an object that cannot be rebuilt from JSON, such as a network or a loss
            that is not part of the engine.
    """
    return json.dumps(plain(recipe), indent=2) + "\n"


def from_json(path: Path) -> Recipe:
    """The recipe that `to_json` wrote. Nothing in the file is executed.

    Raises:
        Mismatch: if the file is missing, damaged or of another version.
    """
    try:
        return from_plain(json_files.read_json(path))
    except OSError as error:
        raise Mismatch(path, f"cannot be read: {error.strerror}", "Name a run folder") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        remedy = "Use the version of the engine that wrote it"
        raise Mismatch(path, f"is no recipe of this version ({error})", remedy) from error


def from_plain(value: Any) -> Recipe:
    """The recipe that `plain` describes.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: if the data describe no recipe.
    """
    recipe = _rebuilt(value)
    if not isinstance(recipe, Recipe):
        raise ValueError("holds no recipe")
    return recipe


def fingerprint(recipe: Recipe, *, but: Sequence[str] = ()) -> str:
    """SHA-256 of the resolved fields of a recipe.

    Raises:
        BadUsage: as `to_json`.
    """
    fields = {name: value for name, value in plain(recipe).items() if name not in but}
    fields = without_later(fields)
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def differences(one: Recipe, other: Recipe, *, but: Sequence[str] = ()) -> list[str]:
    """The fields in which two recipes differ, as `crop.shape: [32, 64, 64] -> [16, 64, 64]`."""
    before, after = _flat(plain(one)), _flat(plain(other))
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {before.get(name, 'unset')} -> {after.get(name, 'unset')}"
        for name in names
        if before.get(name) != after.get(name) and name not in but
    ]


def plain(value: Any) -> Any:
    """A recipe, or a part of one, as plain JSON data.

    Raises:
        BadUsage: if it cannot be rebuilt from JSON.
    """
    if dataclasses.is_dataclass(value):
        if type(value).__name__ not in _KINDS or type(value) is not _KINDS[type(value).__name__]:
            remedy = "Use the engine's own kinds, or add yours to engine/"
            raise BadUsage("recipe", f"{type(value).__name__} is unknown to the engine", remedy)
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if callable(value):
        if LOSSES.get(getattr(value, "__name__", "")) is not value:
            remedy = f"Use one of {', '.join(LOSSES)}"
            raise BadUsage("recipe", f"the loss {value} is unknown to the engine", remedy)
        return str(getattr(value, "__name__", value))
    return [plain(part) for part in value] if isinstance(value, tuple) else value


def _rebuilt(value: Any) -> Any:
    if isinstance(value, dict):
        fields = {name: _rebuilt(field) for name, field in value.items() if name != "kind"}
        if isinstance(fields.get("loss"), str):
            fields["loss"] = LOSSES[fields["loss"]]
        kind = _KINDS[value["kind"]]
        declared.refuse_misfits(kind, fields)
        return kind(**fields)
    return tuple(_rebuilt(part) for part in value) if isinstance(value, list) else value


def without_later(plain: dict[str, Any]) -> dict[str, Any]:
    """Plain fields without those that earlier versions lacked, if they mean the same."""
    later = _LATER.get(plain["kind"], {}) if "kind" in plain else {}
    return {
        name: without_later(value) if isinstance(value, dict) else value
        for name, value in plain.items()
        if name not in later or value != later[name]
    }


def _flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
