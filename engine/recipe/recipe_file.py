"""Recipe files: found by path or name, and run."""

from __future__ import annotations

from pathlib import Path

from engine.errors import BadUsage, did_you_mean
from engine.recipe.recipe import Recipe
from engine.recipe.recipe_code import read_code, run_code

DEFAULT = "respr_unet3d"
# Found as files, not imported: a folder of the user may be called `recipes`, too.
_SHIPPED = Path(__file__).resolve().parents[2] / "recipes"


def find_recipe(name: str) -> Path:
    """The file of a recipe, given by path or by the name of a shipped recipe.

    Raises:
        BadUsage: if there is neither, with the nearest name.
    """
    if Path(name).is_file():
        return Path(name)
    known = {path.stem: path for path in sorted(_SHIPPED.glob("*.py")) if path.stem != "__init__"}
    if name in known:
        return known[name]
    hint = did_you_mean(Path(name).stem, known, f"Give a path, or one of {', '.join(known)}")
    raise BadUsage(name, "is no recipe", hint)


def foreign(path: Path) -> bool:
    """Whether a recipe file is not one of the shipped recipes."""
    return path.resolve().parent != _SHIPPED


def load_recipe(path: Path) -> Recipe:
    """Runs a recipe file and returns its `recipe`. A file runs once a process, until it changes.

    Raises:
        BadUsage: if the file fails, or defines no Recipe.
    """
    recipe = getattr(run_code(read_code(path)), "recipe", None)
    if not isinstance(recipe, Recipe):
        raise BadUsage(path, "defines no engine.Recipe", "Name one `recipe` in the file")
    return recipe
