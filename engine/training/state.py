"""The state of a training: a network, its optimizer, and every variable of both by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.checkpoints import checkpoint
from engine.checkpoints.archive import ArrayHeader
from engine.errors import Mismatch
from engine.recipe.recipe import Recipe
from engine.runs.prior_network import opened
from engine.runtime import Runtime
from engine.training.average import Average
from engine.training.optimizer import Adam
from engine.training.step import TrainingStep


class Training:
    """A network, its optimizer, and every variable of both by name."""

    def __init__(self, recipe: Recipe, runtime: Runtime) -> None:
        with runtime.strategy.scope():
            source = opened(recipe.prior.of) if recipe.prior else None
            self.model = recipe.network.build(precision=runtime.precision, seed=recipe.seed)
            learned = {v.path: v.value for v in self.model.trainable_variables}
            scaled = runtime.precision == "float16"
            self.adam = Adam(learned, scaled=scaled, clip_norm=recipe.clip_norm)
            self.average = None
            if recipe.average:
                averaged = recipe.network.build(precision=runtime.precision, seed=recipe.seed)
                self.average = Average(self.model, averaged, recipe.average)
        self.state = _state(self.model) | self.adam.state
        if self.average is not None:
            self.state |= self.average.state
        # Shared batch statistics are summed over replicas, which the compiled part cannot do.
        shared = runtime.replicas > 1 and bool(self.model.non_trainable_variables)
        self.step = TrainingStep(
            self.model, recipe.window, recipe.noise, source, recipe.loss, recipe.batch, self.adam,
            self.average, runtime.strategy, xla=runtime.xla and not shared,
        )  # fmt: skip

    @property
    def scored(self) -> Any:
        """The model that is validated: that of the averaged weights, where they are averaged."""
        return self.model if self.average is None else self.average.model

    def arrays(self) -> checkpoint.Arrays:
        """A copy of every variable."""
        self._assert_covered()
        return {name: np.array(variable.numpy()) for name, variable in self.state.items()}

    def headers(self) -> dict[str, ArrayHeader]:
        """What `arrays` would hold."""
        self._assert_covered()
        return {
            name: ArrayHeader(tuple(variable.shape), np.dtype(variable.dtype.as_numpy_dtype))
            for name, variable in self.state.items()
        }

    def assign(self, arrays: checkpoint.Arrays) -> None:
        """Sets every variable; names, shapes and datatypes have been compared."""
        for name, variable in self.state.items():
            variable.assign(arrays[name])
        self.adam.settle()

    def assign_weights(self, weights: checkpoint.Arrays, source: Path) -> None:
        """Sets the weights, those of the average too; the optimizer stays as it was made.

        Args:
            weights: by `model/` and their path.
            source: of the weights, for the message.

        Raises:
            Mismatch: where they are of another network.
        """
        remedy = "Give the recipe the same network fields"
        own = self.arrays()
        names = [name for name in own if name.startswith("model/")]
        for name in names:
            if name not in weights or weights[name].shape != own[name].shape:
                cause = f"holds no variable {name} of shape {own[name].shape}"
                raise Mismatch(source, cause, remedy)
        foreign = sorted(set(weights) - set(names))
        if foreign:
            raise Mismatch(source, f"holds {foreign[0]}, which the network lacks", remedy)
        averaged = {f"average/{name.removeprefix('model/')}": weights[name] for name in names}
        averaged = {name: array for name, array in averaged.items() if name in own}
        self.assign(own | weights | averaged)

    def _assert_covered(self) -> None:
        """A variable that is not saved would be trained on, and lost without a word."""
        saved = {id(variable) for variable in self.state.values()}
        lost = [v.path for v in self.model.variables if id(v.value) not in saved]
        assert not lost, f"not in any checkpoint: {lost}"


def _state(model: Any) -> dict[str, Any]:
    """The variables of a network by name.

    Weights are named by their layers. Keras names the states of dropout by a counter of the
    process; here they are counted in the order of the network.
    """
    weights = {f"model/{v.path}": v.value for v in model.weights}
    known = {id(variable) for variable in weights.values()}
    others = [v.value for v in model.variables if id(v.value) not in known]
    return weights | {f"seed/{i}": variable for i, variable in enumerate(others)}
