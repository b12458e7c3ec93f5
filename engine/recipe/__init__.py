"""The recipe: one experiment, as a file, with overrides, and as JSON."""

from engine.recipe.metric import Metric
from engine.recipe.recipe import Recipe

__all__ = ["Metric", "Recipe"]
