"""Overrides: fields of a recipe that are replaced on the command line."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any

from engine import losses, objectives, schedules
from engine.errors import BadUsage, did_you_mean
from engine.recipe import network_prior
from engine.recipe.metric import SCORES, Metric
from engine.recipe.recipe import Recipe
from engine.recipe.serialization import plain
from engine.schedules import Constant, Cosine, Piecewise, WarmUp
from volumes import NeighbourMean
from volumes.sampling.additive_noise import AdditiveNoise
from volumes.sampling.coloured_noise import Coloured
from volumes.sampling.noise import Gaussian

_SCHEDULES = (Constant, Cosine, Piecewise, WarmUp)


def override(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """A recipe with fields replaced, such as `crop.shape=16,64,64` or `network.width=8`.

    Raises:
        BadUsage: naming the field and the nearest known one, or the values that it takes.
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
        hint = did_you_mean(names[0], fields, f"Known here: {', '.join(fields)}")
        raise BadUsage(whole, f"{type(owner).__name__} has no field {names[0]}", hint)
    current = getattr(owner, names[0])
    if len(names) > 1:
        if not dataclasses.is_dataclass(current):
            raise BadUsage(
                whole, f"{names[0]} is {plain(current)} and has no fields", "Set the whole field"
            )
        value = _replaced(current, names[1:], text, whole)
    elif isinstance(current, _SCHEDULES) or names[0] == "learning_rate":
        value = schedules.parse_schedule(text)
    elif isinstance(current, NeighbourMean):
        value = network_prior.parse_prior(text)
    elif isinstance(current, Metric) and text in SCORES:
        value = text
    elif isinstance(current, objectives.Objective):
        value = objectives.parse_objective(text)
    elif names[0] == "loss":
        value = losses.parse_loss(text)
    elif whole == "noise" and ":" in text:
        value = _added_noise(text)
    elif dataclasses.is_dataclass(current):
        parts = ", ".join(f"{whole}.{field.name}" for field in dataclasses.fields(current))
        raise BadUsage(whole, "is set in parts", f"Set {parts}")
    else:
        value = _parsed(text, typing.get_type_hints(type(owner))[names[0]])
    return dataclasses.replace(owner, **{names[0]: value})


def _added_noise(text: str) -> AdditiveNoise:
    """Noise of one level, as `engine evaluate` and `engine degrade` name it."""
    kind, _, value = text.partition(":")
    if kind == Gaussian.name:
        return Gaussian(_parsed(value, float))
    if kind == Coloured.name:
        return Coloured.parse(value)
    raise ValueError("takes gaussian:SIGMA or coloured:SIGMA, or parts such as noise.sigma=0.1")


def _parsed(text: str, kind: Any) -> Any:
    """The value of a field, parsed by its declared type."""
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
