"""The recipe: everything that defines an experiment, validated and frozen.

A recipe file is a Python program that makes one object named `recipe`; running it is running
code. What it resolves to is plain data, saved as JSON, and enough to rebuild the network.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import runpy
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import recipes as shipped
from engine import declared, estimated, losses, networks, schedules
from engine.networks import Network
from engine.refusals import BadUsage, Mismatch
from engine.schedules import Schedule
from volumes import (
    Coloured,
    Crop,
    Gaussian,
    Mixed,
    NeighbourMean,
    Recorded,
    Split,
    Window,
    document,
)
from volumes.geometry import FanBeam, Parallel
from volumes.noise import Noise
from volumes.scanned import LowDose, SparseView
from volumes.sources import Clean, Noisy, SliceTV, Turned
from volumes.tomography import Scanner

Loss = Callable[[Any, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment.

    Attributes:
        split: which cases train, validate and test.
        window: HU <-> the network's units.
        crop: of the training examples.
        noise: added to the clean crops, recorded beside them, or that of a simulated scanner.
        prior: second image of networks that see one, else None.
        network: what is trained.
        loss: (clean, estimate) -> one number an example.
        learning_rate: of Adam, as a function of the step.
        batch: examples a step, over all replicas.
        steps: of the whole training.
        average: how much of an exponential average of the weights each step keeps, such as 0.998;
            the average is then what is validated and applied. 0 keeps none.
        clip_norm: largest norm of the gradient; 0 does not clip.
        validate_every, checkpoint_every: in steps.
        validate_at: levels of noise that are validated, such as (0.02, 0.05, 0.10) of the window;
            "best" is the highest mean PSNR over them. Empty takes the typical level alone.
        validate_slices: slices of each validation case, about its middle, that are scored during
            training.
        seed: of weights, crops and noise.
    """

    split: Split
    window: Window
    crop: Crop
    noise: Noise
    prior: NeighbourMean | None = None
    network: Network
    loss: Loss
    learning_rate: Schedule
    batch: int
    steps: int
    average: float = 0.0
    clip_norm: float = 0.0
    validate_every: int = 1000
    validate_at: tuple[float, ...] = ()
    validate_slices: int = 32
    checkpoint_every: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("batch", "steps", "validate_every", "validate_slices", "checkpoint_every"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
        if self.clip_norm < 0:
            raise ValueError(f"clip_norm must not be negative, not {self.clip_norm}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must lie in [0, 1), not {self.average}")
        labels = [label for level in self.validate_at for label in self.noise.at(level)]
        if len(set(labels)) < len(labels):
            raise ValueError(f"validate_at names a level twice: {', '.join(labels)}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, not {self.seed}")
        if self.network.sees_prior and self.prior is None:
            raise ValueError(f"{type(self.network).__name__} sees a prior: give the recipe one")
        if self.prior is not None and not self.network.sees_prior:
            raise ValueError(f"{type(self.network).__name__} sees no prior: set prior=None")
        if self.network.sees_dose and not isinstance(self.noise, LowDose):
            raise ValueError(
                "network.sees_dose must be false where the noise has no dose; that of "
                "low_dose recipes has one"
            )
        told = self.noise.additive
        if not told and self.prior and isinstance(self.prior.of, SliceTV):
            raise ValueError("SliceTV needs to know the noise, which only additive noise tells")
        if not told and self.crop.scales != (1.0,):
            raise ValueError(
                "crop.scales must be 1.0 where noise is recorded or scanned, which resampling "
                f"would change, not {self.crop.scales}"
            )
        for length, stride in zip(self.crop.shape, self.network.stride, strict=True):
            if length % stride:
                raise ValueError(
                    f"crop.shape {self.crop.shape} must be a multiple of the network's stride "
                    f"{self.network.stride}"
                )


# -- Finding and running recipe files --------------------------------------------------------------


def find(name: str) -> Path:
    """The file of a recipe, given by path or by the name of one that ships with the package.

    Raises:
        BadUsage: where there is neither, with the nearest name.
    """
    if Path(name).is_file():
        return Path(name)
    known = {
        path.stem: path
        for folder in shipped.__path__
        for path in sorted(Path(folder).glob("*.py"))
        if path.stem != "__init__"
    }
    if name in known:
        return known[name]
    near = difflib.get_close_matches(Path(name).stem, known, 1)
    hint = f"Did you mean {near[0]}?" if near else f"Give a path, or one of {', '.join(known)}"
    raise BadUsage(name, "is no recipe", hint)


def foreign(path: Path) -> bool:
    """Whether a recipe file is not one of those that ship."""
    return path.resolve().parent not in [Path(folder).resolve() for folder in shipped.__path__]


def load(path: Path) -> Recipe:
    """Runs a recipe file and takes its `recipe`.

    Raises:
        BadUsage: where the file fails or makes no Recipe.
    """
    try:
        recipe = runpy.run_path(str(path)).get("recipe")
    except Exception as error:  # a recipe is anybody's program: whatever it raises is its fault
        raise BadUsage(path, f"fails with {type(error).__name__}: {error}", "Mend it") from error
    if not isinstance(recipe, Recipe):
        raise BadUsage(path, "does not make an engine.Recipe", "Name one `recipe` in the file")
    return recipe


# -- Overriding fields -----------------------------------------------------------------------------


def override(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """A recipe with fields replaced, such as `crop.shape=16,64,64` or `network.width=8`.

    Raises:
        BadUsage: naming the field and the nearest known one, or what it takes.
    """
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise BadUsage(assignment, "is no override", "Write FIELD=VALUE, such as batch=4")
        try:
            recipe = _replaced(recipe, name.split("."), text, name)
        except ValueError as error:
            raise BadUsage(assignment, str(error), "Change the value") from error
    return recipe


def _replaced(owner: Any, names: Sequence[str], text: str, whole: str) -> Any:
    fields = [field.name for field in dataclasses.fields(owner)]
    if names[0] not in fields:
        near = difflib.get_close_matches(names[0], fields, 1)
        hint = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(fields)}"
        raise BadUsage(whole, f"{type(owner).__name__} has no field {names[0]}", hint)
    current = getattr(owner, names[0])
    if len(names) > 1:
        if not dataclasses.is_dataclass(current):
            raise BadUsage(
                whole, f"{names[0]} is {_plain(current)} and has no fields", "Set it whole"
            )
        value = _replaced(current, names[1:], text, whole)
    elif isinstance(current, Schedule):
        value = schedules.parse(text)
    elif isinstance(current, NeighbourMean):
        value = estimated.parse(text)
    elif dataclasses.is_dataclass(current):
        parts = ", ".join(f"{whole}.{field.name}" for field in dataclasses.fields(current))
        raise BadUsage(whole, "is set in parts", f"Set {parts}")
    elif callable(current):
        if text not in _LOSSES:
            raise ValueError(f"takes one of {', '.join(_LOSSES)}, not {text!r}")
        value = _LOSSES[text]
    else:
        value = _parsed(text, typing.get_type_hints(type(owner))[names[0]])
    return dataclasses.replace(owner, **{names[0]: value})


def _parsed(text: str, kind: Any) -> Any:
    """A field's value from its text, by its declared type."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        for choice in typing.get_args(kind):
            try:
                return _parsed(text, choice)
            except ValueError:
                continue
        raise ValueError(f"takes no {text!r}")
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        parts = text.split(",")
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return tuple(_parsed(part, kinds[0]) for part in parts)
        if len(parts) != len(kinds):
            raise ValueError(f"takes {len(kinds)} values separated by commas, not {text!r}")
        return tuple(_parsed(part, k) for part, k in zip(parts, kinds, strict=True))
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"takes true or false, not {text!r}")
        return text.lower() == "true"
    try:
        return kind(text)
    except (TypeError, ValueError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise ValueError(f"takes a value of type {name}, not {text!r}") from error


# -- Plain data ------------------------------------------------------------------------------------

_KINDS = {
    kind.__name__: kind
    for kind in (
        Recipe, Split, Window, Crop, Gaussian, Coloured, Mixed, Recorded, NeighbourMean,
        LowDose, SparseView, Scanner, FanBeam, Parallel,
        Noisy, SliceTV, Clean, Turned, estimated.Estimated,
        schedules.Constant, schedules.Cosine, schedules.Piecewise, schedules.WarmUp,
        networks.UNet3D, networks.UNet2D, networks.ResPrUNet, networks.ResidualUNet2D,
        networks.BiasFreeUNet2D, networks.ConvNet3D, networks.ConvNet2D,
        networks.ResNet2D, networks.DnCNN,
    )
}  # fmt: skip
# Fields that recipes of earlier versions lacked, at the values that they had without them: a run
# that was begun then keeps its fingerprint.
_LATER: dict[str, dict[str, Any]] = {
    "Recipe": {"average": 0.0, "validate_at": []},
    "Gaussian": {"spread": "even"},
}
_LOSSES = {loss.__name__: loss for loss in (losses.mean_squared_error, losses.mean_absolute_error)}


def to_json(recipe: Recipe) -> str:
    """The resolved recipe as JSON.

    Raises:
        BadUsage: where it holds an object that JSON could not rebuild, such as a network or a loss
            that is not the engine's own.
    """
    return json.dumps(_plain(recipe), indent=2) + "\n"


def from_json(path: Path) -> Recipe:
    """The recipe that `to_json` wrote; nothing in the file is executed.

    Raises:
        Mismatch: where the file is missing, damaged or of another version.
    """
    try:
        recipe = _rebuilt(document.read(path))
    except OSError as error:
        raise Mismatch(path, f"cannot be read: {error.strerror}", "Name a run folder") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        remedy = "Use the version of the engine that wrote it"
        raise Mismatch(path, f"is no recipe of this version ({error})", remedy) from error
    if not isinstance(recipe, Recipe):
        raise Mismatch(path, "holds no recipe", "Name a run folder")
    return recipe


def fingerprint(recipe: Recipe, *, but: Sequence[str] = ()) -> str:
    """sha256 over the resolved fields of a recipe.

    Raises:
        BadUsage: as `to_json`.
    """
    fields = {name: value for name, value in _plain(recipe).items() if name not in but}
    fields = _without_later(fields)
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def differences(one: Recipe, other: Recipe, *, but: Sequence[str] = ()) -> list[str]:
    """The fields in which two recipes differ, as `crop.shape: [32, 64, 64] -> [16, 64, 64]`."""
    before, after = _flat(_plain(one)), _flat(_plain(other))
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {before.get(name, 'unset')} -> {after.get(name, 'unset')}"
        for name in names
        if before.get(name) != after.get(name) and name not in but
    ]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        if type(value).__name__ not in _KINDS or type(value) is not _KINDS[type(value).__name__]:
            remedy = "Use the engine's own kinds, or add yours to engine/"
            raise BadUsage("recipe", f"{type(value).__name__} is unknown to the engine", remedy)
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if callable(value):
        if _LOSSES.get(getattr(value, "__name__", "")) is not value:
            remedy = f"Use one of {', '.join(_LOSSES)}"
            raise BadUsage("recipe", f"the loss {value} is unknown to the engine", remedy)
        return str(getattr(value, "__name__", value))
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _rebuilt(value: Any) -> Any:
    if isinstance(value, dict):
        fields = {name: _rebuilt(field) for name, field in value.items() if name != "kind"}
        if "loss" in fields:
            fields["loss"] = _LOSSES[fields["loss"]]
        kind = _KINDS[value["kind"]]
        declared.refuse_misfits(kind, fields)
        return kind(**fields)
    return tuple(_rebuilt(part) for part in value) if isinstance(value, list) else value


def _without_later(plain: dict[str, Any]) -> dict[str, Any]:
    """Plain fields less those that an earlier version lacked, where they change nothing."""
    later = _LATER.get(plain["kind"], {}) if "kind" in plain else {}
    return {
        name: _without_later(value) if isinstance(value, dict) else value
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
