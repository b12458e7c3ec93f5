"""A trained model: a network with the weights of one checkpoint, and its recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.checkpoints import checkpoint
from engine.checkpoints.archive import Arrays
from engine.errors import Mismatch
from engine.recipe.network_prior import resolved
from engine.recipe.recipe import Recipe
from engine.runs.record import RunRecord
from engine.runs.run import Run
from volumes.volume import Volume


@dataclass(frozen=True)
class Model:
    """A checkpoint of a run. TensorFlow is not imported until `network` is called.

    Attributes:
        run: of the checkpoint.
        path: of the checkpoint.
        recipe: of the run.
        record: of the run.
        arrays: every variable by name, already read: a training process may remove the file.
    """

    run: Run
    path: Path
    recipe: Recipe
    record: RunRecord = field(repr=False, compare=False)
    arrays: Arrays = field(repr=False, compare=False)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all variables of the checkpoint."""
        return checkpoint.fingerprint_of(self.arrays)

    @property
    def step(self) -> int:
        """Number of steps that it was trained for."""
        return checkpoint.step_of(self.path)

    def seen(self, volumes: Sequence[Volume]) -> list[str]:
        """Names of those volumes that it was trained on, by name, file or voxels.

        Cases of imported weights, and of the runs that it was started from, count by content only:
        other data sets use the same names.
        """
        learned = set(self.record.learned_from)
        training = self.record.cases.get("training", {}) if self.record.names_tell else {}
        return [v.case for v in volumes if v.case in training or learned & set(v.hashes)]

    def network(self, precision: str = "float32") -> Any:
        """The Keras model with its weights.

        Raises:
            Mismatch: if the checkpoint does not have the variables of the network.
        """
        model = self.recipe.network.build(precision=precision)
        arrays = checkpoint.weights(self.arrays)
        for variable in model.weights:
            name = f"model/{variable.path}"
            if name not in arrays or arrays[name].shape != tuple(variable.shape):
                cause = f"holds no variable {name} of shape {tuple(variable.shape)}"
                remedy = "Use the version of the engine that wrote it"
                raise Mismatch(self.path, cause, remedy)
            variable.assign(arrays[name])
        return model


def open_model(run: Run, which: str = "best") -> Model:
    """The model of a run: its "best" or "last" checkpoint, or that of a step.

    Raises:
        Mismatch: if there is no such checkpoint, or it is damaged, or the run or its copy of the
            prior's network needs code that must not run.
    """
    (path, arrays), recipe = run.opened(which), run.recipe()
    recipe = replace(recipe, prior=resolved(recipe.prior, run.folder))
    if recipe.prior is not None and recipe.prior.of.network_run is not None:
        Run(Path(recipe.prior.of.network_run), run.run_code).recipe()
    return Model(run, path, recipe, run.record(), arrays)
