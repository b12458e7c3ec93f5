"""Released Keras weights: read as plain arrays, without running code.

A Keras file may contain code that Keras would run. Here h5py reads only the arrays. They are
matched with the variables of the network by order and shape.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from engine import runtime
from engine.checkpoints import checkpoint
from engine.checkpoints.archive import Arrays
from engine.checkpoints.checkpoint import Progress
from engine.errors import BadInput, Mismatch
from engine.recipe.recipe import Recipe
from engine.runs.training_run import TrainingRun
from volumes.storage.digest import sha256


def import_run(weights: Path, recipe: Recipe, source: Path, run: TrainingRun) -> None:
    """Creates a run folder from the weights, with one checkpoint at step 0.

    Args:
        weights: HDF5 file of Keras 2 (`save` or `save_weights`).
        recipe: its network must fit the weights.
        source: file of that recipe.
        run: to create.

    Raises:
        BadInput: if the file cannot be read.
        Mismatch: if the weights do not fit, or the run folder is in use.
    """
    found = _layers(weights)
    runtime.start("cpu")
    variables = recipe.network.build().variables
    # Keras 2 kernels are 2D: (y, x, in, out) becomes (1, y, x, in, out).
    wanted = [(variable.path, tuple(variable.shape)) for variable in variables]
    if len(found) != len(wanted):
        cause = f"holds {len(found)} arrays, the network has {len(wanted)}"
        raise Mismatch(weights, cause, "Choose the --network that it was saved from")
    arrays: Arrays = {}
    for (name, shape), (label, array) in zip(wanted, found, strict=True):
        fitted = array[None] if len(shape) == array.ndim + 1 else array
        if fitted.shape != shape:
            cause = f"has {label} of shape {array.shape} where the network has {name} of {shape}"
            raise Mismatch(weights, cause, "Choose the --network that it was saved from")
        arrays[f"model/{name}"] = fitted
    about = _about(weights)
    with run.locked():
        before = run.record().content.get("imported_sha256")
        if checkpoint.steps(run.checkpoints) and before != about["imported_sha256"]:
            raise Mismatch(run.folder, "holds other weights already", "Choose another --run")
        run.begin(recipe, source, about)
        checkpoint.save(run.checkpoints, arrays, Progress())


def _layers(weights: Path) -> list[tuple[str, np.ndarray]]:
    """The arrays of every layer, in the order of the model."""
    try:
        with h5py.File(weights, "r") as file:
            group = file.get("model_weights", file)
            return [
                (_text(name), np.asarray(group[_text(layer)][_text(name)], np.float32))
                for layer in group.attrs["layer_names"]
                for name in group[_text(layer)].attrs["weight_names"]
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        cause = f"is no file of Keras weights ({type(error).__name__})"
        raise BadInput(weights, cause, "Name an .h5 file that Keras 2 saved") from error


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _about(weights: Path) -> dict[str, object]:
    return {"imported_sha256": sha256(weights), "cases": {}}
