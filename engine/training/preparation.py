"""Preparation: a request resolved before any scan is read beyond its header."""

from __future__ import annotations

from typing import NamedTuple

from engine import runtime
from engine.errors import BadUsage
from engine.recipe.overrides import override
from engine.recipe.recipe import Recipe
from engine.recipe.recipe_file import foreign, load_recipe
from engine.recipe.recipe_source import recipe_source
from engine.runs import initial_weights, prior_network
from engine.runs.initial_weights import InitialWeights
from engine.runs.prior_network import PriorNetwork
from engine.runs.record import RunRecord
from engine.runs.run import named_run
from engine.runs.training_run import TrainingRun
from engine.terminal import Terminal
from engine.training import device_cache, requested_recipe
from engine.training.cases import CaseList, list_cases
from engine.training.fit_request import FitRequest
from engine.training.requested_recipe import RequestedRecipe


class Prepared(NamedTuple):
    """A resolved request. No scan has been read beyond its header."""

    recipe: Recipe
    requested: RequestedRecipe
    run: TrainingRun
    start: InitialWeights | None
    prior: PriorNetwork
    cases: CaseList

    def say_resumed(self, terminal: Terminal) -> None:
        """Says which settings the run keeps that the command does not name."""
        if kept := self.requested.kept:
            terminal.say(f"{self.run.folder}: goes on with its own {', '.join(kept)}")


def prepare(request: FitRequest, terminal: Terminal, *, locked: bool = False) -> Prepared:
    """Resolves a request: recipe, run folder, initial weights, prior and cases.

    Args:
        request: the options.
        terminal: shows messages.
        locked: whether another process of this training holds the lock of the run.

    Raises:
        Refusal: an error for the user. Its class sets the exit code.
    """
    if request.start_checkpoint is not None and request.start is None:
        raise BadUsage("--from-checkpoint", "is given without --from", "Name the run with --from")
    if not request.dry_run and (request.time or request.json):
        option = "--time" if request.time else "--json"
        raise BadUsage(option, "belongs to --dry-run", "Add --dry-run, or leave it out")
    run = TrainingRun(request.run_folder, request.run_code)
    record = RunRecord() if request.fresh else run.record()
    requested = _requested(request, run, record, terminal)
    recipe = requested.recipe if request.fresh else prior_network.as_recorded(requested.recipe, run)
    start = None
    if request.start is not None:
        which = request.start_checkpoint or "best"
        source = named_run(request.start, request.run_code)
        start = initial_weights.find_initial_weights(source, which, recipe, run)
    if not locked:
        run.refuse_locked()
    # With --fresh, the existing run has not been moved aside yet: its copy of the network counts.
    prior = prior_network.resolve(recipe.prior, recipe.window, run)
    runtime.check(request.devices, request.precision, request.xla)
    device_cache.check(request.cache, recipe)
    request.observation.refuse_beyond(recipe.steps)
    found = list_cases(recipe, request.data, terminal, request.reading, record.tops)
    if scale := found.scale():
        terminal.say(f"{request.data}: {scale.told}")
    if request.dry_run or request.fresh:
        found.refuse(terminal, skip_bad=request.skip_bad)
    for case in (case for cases in found.good().values() for case in cases):
        terminal.warn_once(case.oddities())
    return Prepared(recipe, requested, run, start, prior, found)


def _requested(
    request: FitRequest, run: TrainingRun, record: RunRecord, terminal: Terminal
) -> RequestedRecipe:
    """The requested recipe. Only a recipe file that the command names is run."""
    resumed = None if request.fresh else run
    if isinstance(request.recipe, Recipe):
        text = recipe_source(request.recipe).encode()
        return requested_recipe.of_file(text, request.recipe, request.overrides, resumed, record)
    source = request.source
    if source is None:
        return requested_recipe.of_run(run, record, request.overrides)
    if foreign(source):
        terminal.say(f"Running the Python code of {source}")
    file = override(load_recipe(source), request.preset)
    return requested_recipe.of_file(source.read_bytes(), file, request.overrides, resumed, record)
