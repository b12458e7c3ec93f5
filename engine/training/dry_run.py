"""The dry run: what a training would do, and what it would cost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from engine import runtime
from engine.recipe import summary
from engine.recipe.serialization import to_json
from engine.runs.initial_weights import InitialWeights
from engine.terminal import Terminal
from engine.training.bfloat16 import refuse_shallow
from engine.training.cases import outline_cases
from engine.training.fit import refuse_uneven, warn_of_network
from engine.training.fit_request import FitRequest
from engine.training.preparation import Prepared
from engine.training.resumption import compare_cases, compare_run
from engine.training.step_cost import seconds_a_step, step_cost
from volumes.dataset.store import Store, default_root


def dry_run(prepared: Prepared, request: FitRequest, terminal: Terminal) -> None:
    """Prints the cases of each side, the recipe, and the cost of a step and of the training.

    It refuses what a training would refuse, as far as headers and hashes of files can tell, and
    writes nothing. With `time`, a few steps are timed on crops of the first training case.

    Raises:
        Refusal: an error for the user. Its class sets the exit code.
    """
    recipe, found = prepared.recipe, prepared.cases
    start = _rehearse(prepared, request, terminal)
    started = runtime.start(request.devices, request.precision, request.xla)
    refuse_uneven(recipe, started)
    refuse_shallow(recipe, started)
    warn_of_network(recipe, terminal)
    cost = step_cost(recipe, started.precision)
    about: dict[str, Any] = {
        "cases": {side: [case.name for case in cases] for side, cases in found.good().items()},
        "left_out": {str(refusal.path): refusal.cause for refusal in found.bad.values()},
        "from": start.about() if start is not None else None,
        "steps": recipe.steps,
        "parameters": cost.parameters,
        "voxels_per_step": cost.voxels,
        "bytes_per_step": cost.bytes,
        "precision": started.precision,
        "devices": started.about["devices"],
    }
    if request.time:
        store = Store(default_root(), terminal.warn, frozen=True)
        case = found.good()["training"][0]
        volume = store.volume(case, scanned=recipe.noise.scanned)
        seconds = seconds_a_step(recipe, started, volume)
        about |= {"seconds_per_step": seconds, "hours": recipe.steps * seconds / 3600}
    if request.json:
        terminal.result(json.dumps({**about, "recipe": json.loads(to_json(recipe))}, indent=2))
        return
    for line in [*_lines(about), "", *summary.lines(recipe)]:
        terminal.result(line)


def _rehearse(prepared: Prepared, request: FitRequest, terminal: Terminal) -> InitialWeights | None:
    """Refuses what a training would refuse. Returns the initial weights that it would use.

    Raises:
        Refusal: as the training.
    """
    run = prepared.run
    run.refuse_unusable()
    if request.fresh:  # the run is moved aside: the folder is then empty
        prepared = prepared._replace(
            run=replace(run, folder=run.folder.with_name(f".{run.folder.name}.fresh"))
        )
    resumed = compare_run(prepared, request, terminal.warn, rename=False)
    record, cases = resumed.record, prepared.cases
    compared = {sha256 for side in record.cases.values() for sha256 in side.values()}
    compared |= set(resumed.start.trained_on) if resumed.start else set()
    compared |= set(resumed.prior.model.record.learned_from) if resumed.prior.model else set()
    volumes = outline_cases(cases, record, terminal, compared=compared)
    compare_cases(prepared, request, resumed, terminal, volumes, cases)
    return resumed.start


def _lines(about: dict[str, Any]) -> list[str]:
    lines = [f"{side}: {', '.join(names)}" for side, names in about["cases"].items()]
    lines += [f"left out: {path} {cause}" for path, cause in about["left_out"].items()]
    if start := about["from"]:
        lines.append(f"from: {start['run']} at step {start['step']:,}, sha256 {start['sha256']}")
    lines.append(f"network: {about['parameters']:,} parameters")
    lines.append(f"step: {about['voxels_per_step']:,} voxels")
    where = f"{about['precision']} on {', '.join(about['devices'])}"
    lines.append(f"memory of a step: about {about['bytes_per_step'] / 2**30:.2f} GiB, {where}")
    training = f"training: {about['steps']:,} steps"
    if "hours" in about:
        training += f" of {about['seconds_per_step']:.3g} s, {about['hours']:.3g} hours"
    return [*lines, training]
