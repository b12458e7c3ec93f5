"""The engine: trains networks on CT volumes and applies them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.shadowing import refuse_shadowed

if TYPE_CHECKING:
    from engine import losses, objectives, schedules
    from engine.recipe.recipe import Recipe

refuse_shadowed()

__version__ = "0.1.0"

__all__ = ["Recipe", "__version__", "losses", "objectives", "schedules"]


def __getattr__(name: str) -> Any:
    """`engine.Recipe`, imported when it is first wanted: `engine --help` does without numpy."""
    if name == "Recipe":
        from engine.recipe.recipe import Recipe

        return Recipe
    raise AttributeError(f"module 'engine' has no attribute {name!r}")
