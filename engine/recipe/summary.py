"""Summary of a recipe: one line per field, without defaults."""

from __future__ import annotations

import dataclasses
from typing import Any

from engine.recipe.recipe import Recipe


def lines(recipe: Recipe) -> list[str]:
    """A line for each field, its name and its value; fields at their default are left out.

    Example:
        >>> from engine.recipe.recipe_file import find_recipe, load_recipe
        >>> lines(load_recipe(find_recipe("unet3d")))[1]
        'window            Window(low_hu=-1000, high_hu=400, clip=True)'
    """
    fields = {
        field.name: getattr(recipe, field.name)
        for field in dataclasses.fields(recipe)
        if getattr(recipe, field.name) != field.default
    }
    return [f"{name:17} {_compact(value)}" for name, value in fields.items()]


def _compact(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [
            f"{field.name}={_compact(getattr(value, field.name))}"
            for field in dataclasses.fields(value)
            if not _is_usual(value, field)
        ]
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_compact, value))})"
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(getattr(value, "__name__", value))


def _is_usual(value: Any, field: dataclasses.Field[Any]) -> bool:
    """Whether a nested part, such as the scanner of a noise, has its default value."""
    part, made = getattr(value, field.name), field.default_factory
    usual = field.default if made is dataclasses.MISSING else made()
    return dataclasses.is_dataclass(part) and part == usual


def plain_text(value: Any) -> str:
    """A plain value of a recipe, as on the command line where that is possible.

    Raises:
        KeyError: if it is a part without a kind.
    """
    if isinstance(value, dict) and len(value) == 1:  # a function, or a part without fields
        return str(value["kind"])
    if isinstance(value, dict):
        parts = [f"{name}={plain_text(part)}" for name, part in value.items() if name != "kind"]
        return f"{value['kind']}({', '.join(parts)})"
    if isinstance(value, list):
        return ",".join(map(_compact, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
