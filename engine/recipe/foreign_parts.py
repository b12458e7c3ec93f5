"""Foreign parts: classes and functions of a recipe that are not the engine's, and their kinds.

The kind of a part that a recipe's own files define names the file and the part, as in
`recipe.py:AttentionUNet` or `gates.py:Gate`. A part of an installed package has the kind
`my_lab.networks:AttentionUNet`, if the package registers it under the entry points
`respr_engine.parts`:

    [project.entry-points."respr_engine.parts"]
    attention = "my_lab.networks:AttentionUNet"
"""

from __future__ import annotations

import dataclasses
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from engine.errors import BadUsage
from engine.recipe import recipe_code
from engine.recipe.recipe_code import GROUP, RecipeCode


def kind_of(part: Any) -> str:
    """The kind of a class or a function that is not the engine's.

    Raises:
        BadUsage: if it could not be found again by a name, or can change.
    """
    module, name = getattr(part, "__module__", ""), getattr(part, "__qualname__", str(part))
    if isinstance(part, type) and not part.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise BadUsage(
            "recipe", f"{name} can be changed", "Decorate it with dataclass(frozen=True)"
        )
    if found := recipe_code.defined_by(part):
        return found[1]
    kind = f"{module}:{name}"
    if (entry := _entry(kind)) and entry.load() is part:
        return kind
    remedy = (
        "Define it at the top level of the recipe's file or of a module beside it, or register it "
        f"as {GROUP} in its package"
    )
    place = recipe_code.file_of(module) or module or "no module"
    raise BadUsage("recipe", f"{name} of {place} is unknown to the engine", remedy)


def is_foreign(part: Any) -> bool:
    """Whether a class or a function is of a recipe's files, or of a package that registers it."""
    kind = f"{getattr(part, '__module__', '')}:{getattr(part, '__qualname__', '')}"
    return recipe_code.defined_by(part) is not None or _entry(kind) is not None


def part_of(kind: str, code: RecipeCode | None) -> Any:
    """The class or function of a kind.

    Args:
        kind: from `kind_of`.
        code: of the recipe, which has run; None if it has none.

    Raises:
        KeyError: if the code does not define it, and no installed package registers it.
    """
    if code is not None and kind.partition(":")[0] in code.files:
        return recipe_code.definition(code, kind)
    if entry := _entry(kind):
        return entry.load()
    raise KeyError(f"{kind} is no part of the engine, nor one that a package registers as {GROUP}")


def code_behind(value: Any) -> RecipeCode | None:
    """The recipe code that defines a part of a recipe; None if all parts are the engine's.

    Raises:
        BadUsage: if parts are of two recipes.
    """
    found = {code.sha256: code for code in _codes(value)}
    if len(found) > 1:
        places = " and ".join(str(code.path) for code in found.values())
        remedy = "Move the parts into a module beside the recipe"
        raise BadUsage("recipe", f"has parts of two recipes, {places}", remedy)
    return next(iter(found.values()), None)


def _codes(value: Any) -> list[RecipeCode]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, field.name) for field in dataclasses.fields(value) if field.init]
        own = recipe_code.defined_by(type(value))
    else:
        parts = list(value) if isinstance(value, tuple) else []
        own = recipe_code.defined_by(value) if callable(value) else None
    return [code for part in parts for code in _codes(part)] + ([own[0]] if own else [])


def _entry(kind: str) -> EntryPoint | None:
    """The entry point by which an installed package registers a part."""
    return next((entry for entry in entry_points(group=GROUP) if entry.value == kind), None)
