"""Run weights: a run folder that holds only the applied weights of another run.

It has no optimizer state and, if the weights were averaged, only the average. That takes a third to
a fifth of the space of a training. The run can be denoised with, evaluated and started from, and
still records which cases it learned from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.errors import Mismatch
from engine.runs.metrics_file import validation_rows
from engine.runs.prior_network import copy_on
from engine.runs.run import Run
from engine.runs.training_run import TrainingRun
from volumes.storage.atomic import whole_file

# Entries of run.json that are copied: the cases of the weights, and how they were trained.
_KEPT = (
    "engine", "code_sha256", "python", "tensorflow", "keras", "precision", "seed", "cases",
    "voxels", "recordings", "grey_values", "scores", "left_out", "started_from",
)  # fmt: skip


def import_run(source: Run, which: str, run: TrainingRun, *, half: bool = False) -> None:
    """Creates a run folder from the weights of a checkpoint, with one checkpoint at its step.

    Args:
        source: the run that was trained.
        which: of its checkpoints: "best", "last" or a step.
        run: to create.
        half: whether the weights are stored in float16, which takes half the space.

    Raises:
        Mismatch: if there is no such checkpoint, the run folder holds another run, or a weight is
            too large for float16.
        CannotWrite: if the network of its prior cannot be copied.
    """
    path, arrays = source.opened(which)
    step, recipe, about = checkpoint.step_of(path), source.recipe(), source.record().content
    kept = {name: about[name] for name in _KEPT if name in about} | {
        "imported_from": {"step": step, "sha256": checkpoint.fingerprint_of(arrays)}
    }
    rows, weights = _validations(source, step), checkpoint.weights(arrays)
    if half:
        weights = {name: _halved(path, name, array) for name, array in weights.items()}
    with run.locked():
        if checkpoint.steps(run.checkpoints):
            raise Mismatch(run.folder, "holds a run already", "Choose another --run")
        record = run.begin(recipe, source.folder / "recipe.py", kept)
        copy_on(source, run)
        progress = Progress(step, step, _error(rows))
        checkpoint.save(run.checkpoints, weights, progress)
        run.note_saved(record)
        with whole_file(run.metrics, overwrite=True) as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows).encode())


def _halved(path: Path, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if np.abs(array).max(initial=0) > np.finfo(np.float16).max:
        raise Mismatch(
            path, f"holds numbers in {name} that float16 cannot hold", "Leave out --half"
        )
    return array.astype(np.float16)


def _validations(source: Run, step: int) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl of the validation at a step, and of the baselines at step 0."""
    return [
        row
        for found, row in validation_rows(source)
        if found.step == step or (found.step == 0 and found.method != "network")
    ]


def _error(rows: list[dict[str, Any]]) -> float | None:
    """The mean squared error over all levels, as recorded by the source run."""
    for row in rows:
        if row["method"] == "network" and "level" not in row:
            return float(row["mean"]["mse"])
    return None
