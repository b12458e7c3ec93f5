"""The arithmetic of a network, and the rate of a matrix product on this machine."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from engine.inference.segments import operations
from volumes import random_draws

_SIZE = 2048  # of the matrices: the caches do not hold them, and a product takes a fraction of 1 s


def multiply_adds(model: Any, shape: tuple[int, ...]) -> int:
    """The multiply-adds of all convolutions, for one pass forward.

    Activations, pooling and sums are not counted: they are less than a hundredth of it.

    Args:
        model: a Keras model of convolutions.
        shape: (B, Z, Y, X, 1) of each image that it takes.

    Raises:
        UnknownLayerError: if the model is no graph of layers.
    """
    shapes = {id(tensor): shape for tensor in model.inputs}
    total = 0
    for layer, given, output in operations(model):
        of_inputs = [shapes[id(tensor)] for tensor in given]
        made = layer.compute_output_shape(of_inputs if len(given) > 1 else of_inputs[0])
        shapes[id(output)] = tuple(made)
        if hasattr(layer, "kernel"):
            spread = "Transpose" in type(layer).__name__  # each voxel of the input is multiplied
            voxels = of_inputs[0] if spread else shapes[id(output)]
            total += math.prod(voxels[:-1]) * math.prod(layer.kernel.shape)
    return total


def step_flop(model: Any, shape: tuple[int, ...]) -> int:
    """The floating-point operations of a training step: a multiply-add counts as two.

    The gradients of the image and of the weights each need as many as the pass forward.
    """
    return 3 * 2 * multiply_adds(model, shape)


class MatrixProduct:
    """A float32 matrix product in TensorFlow. It shows what this machine can compute at most."""

    def __init__(self) -> None:
        import tensorflow as tf

        rng = random_draws.rng(0, "matrix")
        self._factors = [tf.constant(rng.random((_SIZE, _SIZE), np.float32)) for _ in range(2)]
        self.flop_per_s()

    def flop_per_s(self) -> float:
        """Floating-point operations a second, of one product."""
        import tensorflow as tf

        begun = time.perf_counter()
        tf.matmul(*self._factors).numpy()
        return 2 * _SIZE**3 / (time.perf_counter() - begun)
