"""Recipe files: found by path or name, and run."""

from __future__ import annotations

import difflib
import runpy
from pathlib import Path

import recipes as shipped
from engine.errors import BadUsage
from engine.recipe.recipe import Recipe


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
