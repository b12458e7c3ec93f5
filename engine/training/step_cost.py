"""The cost of a training step: parameters, calculated memory and measured seconds."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any, NamedTuple

from engine.recipe.recipe import Recipe
from engine.runtime import Runtime
from volumes.sampling.examples import Examples
from volumes.volume import Volume

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Fitted to the peak memory of ten recipes on a CPU, to within a fifth: two gradients of the widest
# layer, half of the inputs of batch normalisation once more, and the libraries' buffers.
_WIDEST, _NORMALISED, _BUFFERS_BYTES = 2.0, 0.5, 40 * 2**20
_COPIES = 5  # of the parameters: gradient, Adam's two moments, the update, an average
_WARM_STEPS, _TIMED_STEPS = 2, 5


class StepCost(NamedTuple):
    """The cost of one step.

    Attributes:
        parameters: number of trained parameters.
        voxels: of the crops of a step.
        bytes: memory of a step over all devices, without that of the program itself.
    """

    parameters: int
    voxels: int
    bytes: int


def step_cost(recipe: Recipe, precision: str = "float32") -> StepCost:
    """The cost of a step of a recipe. TensorFlow must have been started.

    The gradients need the inputs of layers with weights and of pooling, and the outputs of ReLU and
    max pooling. A GPU also needs workspace for its convolutions, which is not included.

    Args:
        recipe: what is trained.
        precision: of the network's inner layers.
    """
    model = recipe.network.build()
    size = {
        tensor: math.prod(shape) * _BYTES[precision]
        for tensor, shape in shapes_at_crop(model, recipe).items()
    }
    kept = {id(tensor) for layer in model.layers for tensor in _kept(layer)}
    normalised = [layer for layer in model.layers if "BatchNormalization" in type(layer).__name__]
    parameters = sum(math.prod(v.shape) for v in model.trainable_variables)
    needed = (
        sum(size[tensor] for tensor in kept)
        + _NORMALISED * sum(size[id(layer.input)] for layer in normalised)
        + _WIDEST * max(size.values())
        + 4 * _COPIES * parameters
        + _BUFFERS_BYTES
    )
    voxels = recipe.examples_per_step * math.prod(recipe.crop.shape)
    return StepCost(parameters, voxels, round(needed))


def shapes_at_crop(model: Any, recipe: Recipe) -> dict[int, tuple[int, ...]]:
    """The shapes of the tensors of a network for the batch of a recipe, by identity."""
    import keras

    crops = [keras.KerasTensor((recipe.batch, *recipe.crop.shape, 1)) for _ in model.inputs]
    whole = keras.Model(model.inputs, [layer.output for layer in model.layers])
    shapes = whole.compute_output_spec(crops if len(crops) > 1 else crops[0])
    return {
        id(layer.output): shape.shape for layer, shape in zip(model.layers, shapes, strict=True)
    }


def _kept(layer: Any) -> list[Any]:
    """The tensors that a layer keeps to compute gradients."""
    given = layer.input if isinstance(layer.input, list) else [layer.input]
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    found = []
    if layer.weights or "Pooling" in type(layer).__name__:
        found += given
    if activation == "relu" or type(layer).__name__ in ("ReLU", "MaxPooling3D"):
        found.append(layer.output)
    return found


def seconds_a_step(recipe: Recipe, runtime: Runtime, volume: Volume) -> float:
    """The median time of a few steps on crops of one volume, including reading."""
    import tensorflow as tf

    from engine.training.batches import feed
    from engine.training.state import TrainingState

    training = TrainingState(recipe, runtime)
    examples = Examples(
        [volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed, recipe.objective.halo
    )
    rate, taken = tf.constant(recipe.learning_rate(0, recipe.steps), tf.float32), []
    count, parts = recipe.examples_per_step, recipe.accumulate
    with feed(examples, count, runtime.strategy, parts=parts) as fed:
        before = time.perf_counter()
        for batch in fed.batches(0, _WARM_STEPS + _TIMED_STEPS):
            float(training.step(batch, rate).loss)  # waits for the device
            taken.append(time.perf_counter() - before)
            before = time.perf_counter()
    return statistics.median(taken[_WARM_STEPS:])
