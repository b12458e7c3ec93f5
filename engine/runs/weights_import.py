"""Run weights: a run folder that holds the weights of another run as they are applied, alone.

Without the optimizer, and with the average of the weights where one was kept, a network takes a
third to a fifth of the room that its training takes. It can be denoised with, evaluated and
started from, and still tells which cases it has learned from.
"""

from __future__ import annotations

import json
from pathlib import Path

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.errors import Mismatch
from engine.runs.run import Run
from volumes.storage import json_files
from volumes.storage.atomic import whole_file

# Of run.json: what the weights have learned from, and by what.
_KEPT = (
    "engine", "code_sha256", "python", "tensorflow", "keras", "precision", "seed", "cases",
    "recordings", "left_out", "started_from",
)  # fmt: skip


def import_run(source: Run, which: str, run: Run) -> None:
    """Makes a run folder of the weights of a checkpoint; its one checkpoint is of the same step.

    Args:
        source: the run that was trained.
        which: of its checkpoints: "best", "last" or a step.
        run: to make.

    Raises:
        Mismatch: where there is no such checkpoint, or the run folder holds another run.
    """
    path, arrays = source.opened(which)
    step, recipe, about = checkpoint.step_of(path), source.recipe(), source.record().content
    kept = {name: about[name] for name in _KEPT if name in about} | {
        "imported_from": {"step": step, "sha256": checkpoint.fingerprint_of(arrays)}
    }
    rows = _validations(source, step)
    with run.locked():
        if checkpoint.steps(run.checkpoints):
            raise Mismatch(run.folder, "holds a run already", "Choose another --run")
        record = run.begin(recipe, source.folder / "recipe.py", kept)
        progress = Progress(step, step, _error(rows))
        checkpoint.save(run.checkpoints, checkpoint.weights(arrays), progress)
        run.note_saved(record)
        with whole_file(run.metrics, overwrite=True) as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows).encode())


def _validations(source: Run, step: int) -> list[dict[str, object]]:
    """The rows of metrics.jsonl that a validation at a step wrote, those of step 0 beside it."""
    rows = []
    for line in _lines(source.metrics):
        if b'"method"' in line:
            row = json_files.parse_json(line)
            if row["step"] == step or (row["step"] == 0 and row["method"] != "network"):
                rows.append(row)
    return rows


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except FileNotFoundError:
        return []


def _error(rows: list[dict[str, object]]) -> float | None:
    """The mean squared error over all levels, as the run that was trained has noted it."""
    for row in rows:
        mean = row.get("mean")
        if row["method"] == "network" and "level" not in row and isinstance(mean, dict):
            return float(mean["mse"])
    return None
