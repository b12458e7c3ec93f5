"""The recipe that a command requests: of a recipe file or of a run, with overrides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.recipe.overrides import override
from engine.recipe.recipe import Recipe
from engine.recipe.serialization import refuse_unsaved
from engine.runs import own_settings
from engine.runs.own_settings import Setting
from engine.runs.record import RunRecord
from engine.runs.run import Run


class RequestedRecipe(NamedTuple):
    """A requested recipe.

    Attributes:
        recipe: with the own settings of the run that is resumed, and the overrides.
        source: content of its file; None if it is that of the run.
        file: the recipe of the file alone; None if it is not known.
        kept: what the run goes on with that the command does not name, such as network.width=4.
    """

    recipe: Recipe
    source: bytes | None
    file: Recipe | None
    kept: Sequence[str] = ()

    @property
    def own(self) -> dict[str, Setting] | None:
        """The own settings that the run has from now on; None if they are not known."""
        return None if self.file is None else own_settings.between(self.file, self.recipe)


def of_file(
    source: bytes, file: Recipe, overrides: Sequence[str], run: Run | None, record: RunRecord
) -> RequestedRecipe:
    """The recipe of a file, with the own settings of a run and with overrides.

    Args:
        source: content of the file.
        file: its recipe.
        overrides: of the command.
        run: that is resumed, if its folder contains one; None starts anew.
        record: of that run.

    Raises:
        BadUsage: if an override is wrong, or JSON cannot rebuild the recipe.
        Mismatch: if the run is damaged, or its settings do not fit the file.
    """
    refuse_unsaved(file)
    if run is None:
        return RequestedRecipe(override(file, overrides), source, file)
    own = own_settings.of_run(run, record, source, file)
    recipe = override(own_settings.kept(file, own, run) if own else file, overrides)
    return RequestedRecipe(recipe, source, file, own_settings.described(recipe, own, overrides))


def of_run(run: Run, record: RunRecord, overrides: Sequence[str]) -> RequestedRecipe:
    """The recipe of a run, with overrides. Code that it keeps is run only if the user asked.

    Raises:
        BadUsage: if an override is wrong.
        Mismatch: if the run is damaged.
    """
    own, before = record.own_settings, run.recipe()
    recipe = override(before, overrides)
    if own is None:
        return RequestedRecipe(recipe, None, None, ["recipe"])
    settings = {name: Setting(**values) for name, values in own.items()}
    file = own_settings.undone(before, settings, run)
    kept = ["recipe", *own_settings.described(recipe, settings, overrides)]
    return RequestedRecipe(recipe, None, file, kept)
