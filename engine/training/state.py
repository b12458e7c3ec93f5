"""The state of a training: network, optimizer, and their variables by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.checkpoints import checkpoint
from engine.checkpoints.archive import ArrayHeader
from engine.errors import Mismatch
from engine.networks.widening import Widening, widened
from engine.recipe.recipe import Recipe
from engine.runs.prior_network import loaded_source
from engine.runtime import Runtime
from engine.training.average import Average
from engine.training.optimizer import Adam
from engine.training.step import TrainingStep


class TrainingState:
    """A network, its optimizer and its training step, and every variable by name."""

    def __init__(self, recipe: Recipe, runtime: Runtime) -> None:
        self._widens = isinstance(recipe.network, Widening)
        with runtime.strategy.scope():
            source = loaded_source(recipe.prior.of) if recipe.prior else None
            self.model = recipe.network.build(precision=runtime.precision, seed=recipe.seed)
            learned = {v.path: v.value for v in self.model.trainable_variables}
            scaled = runtime.precision == "float16"
            self.adam = Adam(
                learned, scaled=scaled, clip_norm=recipe.clip_norm, weight_decay=recipe.weight_decay
            )
            self.average = None
            if recipe.average:
                averaged = recipe.network.build(precision=runtime.precision, seed=recipe.seed)
                self.average = Average(self.model, averaged, recipe.average)
        self.state = _state(self.model) | self.adam.state
        if self.average is not None:
            self.state |= self.average.state
        self.step = TrainingStep(recipe, runtime, self.model, source, self.adam, self.average)

    @property
    def scored(self) -> Any:
        """The model that is validated: with averaged weights, if the recipe averages them."""
        return self.model if self.average is None else self.average.model

    def arrays(self) -> checkpoint.Arrays:
        """A copy of every variable."""
        self._assert_covered()
        return {name: np.array(variable.numpy()) for name, variable in self.state.items()}

    def headers(self) -> dict[str, ArrayHeader]:
        """Shapes and datatypes of `arrays`."""
        self._assert_covered()
        return {
            name: ArrayHeader(tuple(variable.shape), np.dtype(variable.dtype.as_numpy_dtype))
            for name, variable in self.state.items()
        }

    def assign(self, arrays: checkpoint.Arrays) -> None:
        """Sets every variable. Names, shapes and datatypes must have been checked."""
        for name, variable in self.state.items():
            variable.assign(arrays[name])
        self.adam.settle()

    def assign_weights(self, weights: checkpoint.Arrays, source: Path) -> None:
        """Sets the weights and their average. The optimizer keeps its initial state.

        Weights of a narrower network are widened, if the network can be.

        Args:
            weights: arrays by `model/` and the path of the variable.
            source: of the weights, for the message.

        Raises:
            Mismatch: if they are of another network.
        """
        remedy = "Give the recipe the same network fields"
        own = self.arrays()
        names = [name for name in own if name.startswith("model/")]
        if self._widens and set(weights) == set(names):
            weights = widened(weights, {name: own[name] for name in names})
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
        """Asserts that every variable is saved. A resume would lose others without an error."""
        saved = {id(variable) for variable in self.state.values()}
        lost = [v.path for v in self.model.variables if id(v.value) not in saved]
        assert not lost, f"not in any checkpoint: {lost}"


def _state(model: Any) -> dict[str, Any]:
    """The variables of a network by name.

    Weights are named by their layers. Keras names the random states of dropout by a counter of the
    process; here they are numbered in the order of the network.
    """
    weights = {f"model/{v.path}": v.value for v in model.weights}
    known = {id(variable) for variable in weights.values()}
    others = [v.value for v in model.variables if id(v.value) not in known]
    return weights | {f"seed/{i}": variable for i, variable in enumerate(others)}
