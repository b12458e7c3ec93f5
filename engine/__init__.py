"""The engine: trains networks on CT volumes and applies them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.shadowing import refuse_shadowed

if TYPE_CHECKING:
    from engine import errors, losses, objectives, schedules
    from engine.api.denoiser import load
    from engine.api.denoising import denoise
    from engine.api.evaluation import evaluate
    from engine.api.fitting import fit
    from engine.api.phantoms import phantom
    from engine.errors import Refusal
    from engine.recipe.network_prior import Estimated
    from engine.recipe.recipe import Recipe

refuse_shadowed()

__version__ = "0.1.0"

__all__ = [
    "Estimated", "Recipe", "Refusal", "__version__", "denoise", "errors", "evaluate", "fit", "load",
    "losses", "objectives", "phantom", "schedules",
]  # fmt: skip

# Imported when it is first wanted: `engine --help` does without numpy.
_PLACES = {
    "Estimated": "engine.recipe.network_prior",
    "Recipe": "engine.recipe.recipe",
    "Refusal": "engine.errors",
    "denoise": "engine.api.denoising",
    "evaluate": "engine.api.evaluation",
    "fit": "engine.api.fitting",
    "load": "engine.api.denoiser",
    "phantom": "engine.api.phantoms",
}
_MODULES = ("errors", "losses", "objectives", "schedules")


def __getattr__(name: str) -> Any:
    """What the package exports, and is not imported yet."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    if name in _MODULES:
        return import_module(f"engine.{name}")
    raise AttributeError(f"module 'engine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
