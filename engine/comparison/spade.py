"""SPADE: total variation that penalises edges of a prior image less.

The estimate is the unique minimiser over u of

    alpha ||grad u||_1 + beta ||grad (u - prior)||_1 + 1/2 ||u - noisy||^2,

where ||.||_1 is the sum over voxels of the Euclidean length of the gradient (weight_z u_z, u_y,
u_x). Sparsity of the image and of its difference to a prior is the idea of prior image constrained
compressed sensing (Chen, Tang and Leng, Med. Phys. 35, 2008). Abascal et al., EUSIPCO 2019, apply
it to denoising as SPADE; their weight mu of the last term is divided out here. Only the gradient of
the prior matters. With beta = 0 this is the model of Rudin, Osher and Fatemi (Physica D 60, 1992)
in three dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np

from engine.errors import BadUsage
from volumes.total_variation import minimiser
from volumes.volume import SpacingMm, Unit


@dataclass(frozen=True)
class Spade:
    """Sparse and prior-based denoising, in three dimensions.

    Attributes:
        alpha: weight of the gradient, as a multiple of sigma.
        beta: weight of the gradient of the difference to the prior, as a multiple of sigma.
        weight_z: of the difference of neighbouring slices; less than 1 for thick slices.
        iterations: of the solver.
    """

    name: ClassVar[str] = "spade"
    sees_prior: ClassVar[bool] = True
    slicewise: ClassVar[bool] = False
    alpha: float = 0.6
    beta: float = 0.15
    weight_z: float = 1.0
    iterations: int = 50

    def candidates(self) -> list[Self]:
        """A grid around alpha + beta = 0.6, the best weight of 3D total variation.

        A noisy prior needs more alpha, a denoised one more beta. Beta is never 0, which would be 3D
        total variation.
        """
        return [
            replace(self, alpha=alpha, beta=beta, weight_z=weight_z)
            for weight_z in (0.5, 1.0)
            for alpha in (0.15, 0.3, 0.45, 0.6, 0.75)
            for beta in (0.05, 0.15, 0.3, 0.6)
        ]

    def estimate(
        self, noisy: Unit, sigma: float, spacing_mm: SpacingMm, prior: Unit | None
    ) -> Unit:
        """The estimate, (Z, Y, X) in window units like `noisy` and `prior`.

        Raises:
            BadUsage: if there is no prior.
        """
        from engine.inference.predictor import tensor

        if prior is None:
            raise BadUsage(self.name, "needs a prior", "Choose a recipe that has one, or use tv")
        weights = np.array([self.alpha * sigma, self.beta * sigma, self.weight_z], np.float32)
        images = tensor(noisy), tensor(prior)
        estimate = _compiled()(*images, weights, np.array(self.iterations, np.int32))
        return np.asarray(estimate.numpy()[0, ..., 0], np.float32)


@cache
def _compiled() -> Any:
    """The solver as a graph, traced once for all shapes and parameters."""
    from engine.runtime import tensorflow

    tf = tensorflow()

    def minimum(noisy: Any, prior: Any, weights: Any, iterations: Any) -> Any:
        alpha, beta, weight_z = tf.unstack(weights)
        return minimiser(noisy, ((alpha, None), (beta, prior)), weight_z, iterations)

    images = tf.TensorSpec((None, None, None, None, 1), tf.float32)
    signature = [images, images, tf.TensorSpec((3,), tf.float32), tf.TensorSpec((), tf.int32)]
    return tf.function(minimum, input_signature=signature, autograph=False)
