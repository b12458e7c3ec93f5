"""Recipes as JSON: plain data that is enough to rebuild a network.

Parts that are not the engine's are named by file and class, such as `recipe.py:AttentionUNet`. They
are rebuilt only from code that the caller has run, see `engine.runs.kept_code`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import losses, networks, objectives, schedules
from engine.errors import BadUsage, Mismatch
from engine.recipe import declared, foreign_parts, network_prior
from engine.recipe.metric import Metric
from engine.recipe.recipe import Recipe
from engine.recipe.recipe_code import RecipeCode
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
        Recipe, Metric, Split, Window, Crop, Gaussian, Coloured, Mixed, Recorded, AsScanned,
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
        "best_by": "psnr",
        "objective": {"kind": "Supervised"},
        "weight_decay": 0.0,
        "accumulate": 1,
        "patience": 0,
    },
    "Gaussian": {"spread": "even"},
}


CODE = "code"  # the field with the hashes of the files that define foreign parts


def to_json(recipe: Recipe) -> str:
    """The resolved recipe as JSON, with the hashes of the files that define foreign parts.

    Raises:
        BadUsage: if it has an object that cannot be rebuilt from JSON.
    """
    return json.dumps(plain(recipe) | _code(recipe), indent=2) + "\n"


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of a recipe as plain data, from the file that `to_json` wrote.

    Raises:
        Mismatch: if the file is missing or damaged.
    """
    try:
        content = json_files.read_json(path)
    except OSError as error:
        raise Mismatch(path, f"cannot be read: {error.strerror}", "Name a run folder") from error
    except ValueError as error:
        raise _no_recipe(path, error) from error
    if not isinstance(content, dict):
        raise _no_recipe(path, "holds no recipe")
    return content


def rebuilt(path: Path, fields: Mapping[str, Any], code: RecipeCode | None) -> Recipe:
    """The recipe of plain fields.

    Args:
        path: of their file, for errors.
        fields: from `read_fields`.
        code: that defines the foreign parts.

    Raises:
        Mismatch: if they describe no recipe of this version.
    """
    try:
        return from_plain(fields, code)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _no_recipe(path, error) from error


def _no_recipe(path: Path, cause: object) -> Mismatch:
    remedy = "Use the version of the engine that wrote it"
    return Mismatch(path, f"is no recipe of this version ({cause})", remedy)


def from_plain(fields: Mapping[str, Any], code: RecipeCode | None = None) -> Recipe:
    """The recipe that `plain` describes.

    Args:
        fields: of the recipe.
        code: that defines its foreign parts.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: if the data describe no recipe.
    """
    recipe = _rebuilt({name: value for name, value in fields.items() if name != CODE}, code)
    if not isinstance(recipe, Recipe):
        raise ValueError("holds no recipe")
    return recipe


def refuse_unsaved(recipe: Recipe) -> None:
    """Refuses a recipe that a run could not be rebuilt from.

    Raises:
        BadUsage: naming the part.
    """
    code = foreign_parts.code_behind(recipe)
    try:
        again = from_plain(json.loads(to_json(recipe)), code)
    except (ValueError, TypeError, KeyError, AttributeError, NameError) as error:
        remedy = "Declare the types of the fields of your parts as in the engine's"
        raise BadUsage("recipe", f"cannot be rebuilt from JSON ({error})", remedy) from error
    if changed := differences(recipe, again):
        remedy = "Let the fields of your parts keep the values that they are given"
        raise BadUsage("recipe", f"changes if it is rebuilt from JSON ({changed[0]})", remedy)


def _code(recipe: Recipe) -> dict[str, Any]:
    """The hashes of the files that define foreign parts, as a field; nothing without such parts."""
    code = foreign_parts.code_behind(recipe)
    return {} if code is None else {CODE: code.hashes}


def fingerprint(recipe: Recipe, *, but: Sequence[str] = ()) -> str:
    """SHA-256 of the resolved fields of a recipe, and of the files that define foreign parts.

    Raises:
        BadUsage: as `to_json`.
    """
    fields = {name: value for name, value in plain(recipe).items() if name not in but}
    fields = without_later(fields) | _code(recipe)
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
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        known = _KINDS.get(kind.__name__) is kind
        name = kind.__name__ if known else foreign_parts.kind_of(kind)
        fields = dataclasses.fields(value)
        return {"kind": name, **{f.name: plain(getattr(value, f.name)) for f in fields if f.init}}
    if callable(value):
        name = getattr(value, "__name__", "")
        return name if losses.BY_NAME.get(name) is value else {"kind": foreign_parts.kind_of(value)}
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    if value is None or isinstance(value, str | int | float):
        return value
    remedy = "Use numbers, text, tuples, functions and frozen dataclasses"
    raise BadUsage("recipe", f"cannot keep a {type(value).__name__} as JSON", remedy)


def _rebuilt(value: Any, code: RecipeCode | None) -> Any:
    if isinstance(value, dict):
        fields = {name: _rebuilt(field, code) for name, field in value.items() if name != "kind"}
        if isinstance(fields.get("loss"), str):
            fields["loss"] = losses.BY_NAME[fields["loss"]]
        kind = value["kind"]
        part = _KINDS[kind] if kind in _KINDS else foreign_parts.part_of(str(kind), code)
        if not isinstance(part, type) and not fields:
            return part  # a function
        if not dataclasses.is_dataclass(part):
            raise TypeError(f"{kind} has no fields")
        declared.refuse_misfits(part, fields)
        return part(**fields)
    return tuple(_rebuilt(part, code) for part in value) if isinstance(value, list) else value


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
