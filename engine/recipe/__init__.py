"""The recipe: one experiment, from a file, from the command line, as JSON."""

from engine.recipe.recipe import Recipe

__all__ = ["Recipe"]
