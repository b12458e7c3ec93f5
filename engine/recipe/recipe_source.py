"""Source of a recipe: a recipe that exists only as an object, written as a recipe file."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from engine.recipe.recipe import Recipe

_WIDTH = 96


def recipe_source(recipe: Recipe) -> str:
    """The text of a recipe file that defines this recipe, with every field.

    Example:
        >>> from engine.recipe.recipe_file import find_recipe, load_recipe
        >>> print(recipe_source(load_recipe(find_recipe("unet2d"))))  # doctest: +ELLIPSIS
        \"\"\"A recipe that was given as an object. Its fields are written out.\"\"\"
        <BLANKLINE>
        from engine.losses import mean_squared_error
        ...
        recipe = Recipe(
            split=Split(validation=4, test=2, patient='(.+)'),
        ...
    """
    imported = sorted(
        f"from {part.__module__} import {part.__name__}" for part in _parts(recipe, set())
    )
    title = '"""A recipe that was given as an object. Its fields are written out."""'
    return "\n".join([title, "", *imported, "", f"recipe = {_written(recipe, 0)}", ""])


def _parts(value: Any, found: set[Any]) -> set[Any]:
    """The classes and functions that the text of a value names."""
    if dataclasses.is_dataclass(value):
        found.add(type(value))
        for field in dataclasses.fields(value):
            _parts(getattr(value, field.name), found)
    elif isinstance(value, tuple | list):
        for part in value:
            _parts(part, found)
    elif callable(value):
        found.add(value)
    return found


def _written(value: Any, indent: int) -> str:
    """A value as Python text. A call that is too long for a line has a line for each field."""
    if not dataclasses.is_dataclass(value):
        if isinstance(value, tuple):
            parts = [_written(part, indent) for part in value]
            return f"({', '.join(parts)}{',' * (len(parts) == 1)})"
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        return str(value.__name__) if callable(value) else repr(value)
    inner = indent + 4
    fields = [
        f"{field.name}={_written(getattr(value, field.name), inner)}"
        for field in dataclasses.fields(value)
    ]
    name, line = type(value).__name__, ", ".join(fields)
    if isinstance(value, Recipe) or "\n" in line or len(name) + len(line) + inner > _WIDTH:
        line = "".join(f"\n{' ' * inner}{field}," for field in fields) + f"\n{' ' * indent}"
    return f"{name}({line})"
