"""SPADE: total variation that forgives the edges which a prior image has too.

The estimate is the only minimiser over u of

    alpha ||grad u||_1 + beta ||grad (u - prior)||_1 + 1/2 ||u - noisy||^2,

||.||_1 summing the Euclidean lengths of the gradients (weight_z u_z, u_y, u_x) of all voxels. The
idea, sparsity of the image and of its difference to a prior, is that of prior image constrained
compressed sensing (Chen, Tang and Leng, Med. Phys. 35, 2008), which Abascal et al., EUSIPCO 2019,
brought to denoising as SPADE; their weight mu of the last term is divided out here. Of the prior
only the gradient counts. With beta = 0 this is the model of Rudin, Osher and Fatemi (Physica D 60,
1992) in three dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np

from engine.refusals import BadUsage
from volumes.volume import SpacingMm, Unit

Gradient = tuple[Any, Any, Any]

_AXES = (1, 2, 3)  # Z, Y, X of a tensor
_FIRST_STEP = 2.0  # of the estimate; from 0.5 to 50 a hundred iterations end within 1e-4
_TINY = 1e-20  # what a length is divided by where it is nothing


@dataclass(frozen=True)
class Spade:
    """Sparse and prior-based denoising, in three dimensions.

    Attributes:
        alpha: weight of the gradient, as a multiple of sigma.
        beta: weight of the gradient of the difference to the prior, as a multiple of sigma.
        weight_z: of the difference of neighbouring slices; less than 1 where slices are thick.
        iterations: of the solver.
    """

    name: ClassVar[str] = "spade"
    alpha: float = 0.6
    beta: float = 0.15
    weight_z: float = 1.0
    iterations: int = 100

    def candidates(self) -> list[Self]:
        """A grid around alpha + beta = 0.6, the best weight of 3D total variation.

        A noisy prior asks for more alpha, a denoised one for more beta. Beta is never 0: that would
        be another method.
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
        """The estimate, (Z, Y, X) in window units as `noisy` and `prior` are.

        Raises:
            BadUsage: where there is no prior.
        """
        from engine.feed import tensor

        if prior is None:
            raise BadUsage(self.name, "needs a prior", "Choose a recipe that has one, or use tv")
        weights = np.array([self.alpha * sigma, self.beta * sigma, self.weight_z], np.float32)
        images = tensor(noisy), tensor(prior)
        estimate = _compiled()(*images, weights, np.array(self.iterations, np.int32))
        return np.asarray(estimate.numpy()[0, ..., 0], np.float32)


@cache
def _compiled() -> Any:
    """`minimiser` as a graph, traced once for all shapes and parameters."""
    from engine.runtime import tensorflow

    tf = tensorflow()
    images = tf.TensorSpec((None, None, None, None, 1), tf.float32)
    signature = [images, images, tf.TensorSpec((3,), tf.float32), tf.TensorSpec((), tf.int32)]
    return tf.function(minimiser, input_signature=signature, autograph=False)


def minimiser(noisy: Any, prior: Any, weights: Any, iterations: Any) -> Any:
    """Minimises SPADE's energy by the accelerated primal-dual method.

    Algorithm 2 of Chambolle and Pock, J. Math. Imaging Vis. 40 (2011), with K u = (grad u, grad u)
    and the data term as the function that is strongly convex, of parameter 1: the energy's error
    falls with the square of the iterations. There is one dual field for each gradient; what the
    loop carries are eight volumes beside the two given.

    Args:
        noisy: (B, Z, Y, X, 1) float32 in window units.
        prior: the same.
        weights: (3,) float32: alpha and beta in window units, and the weight of the z difference.
        iterations: how many.

    Returns:
        (B, Z, Y, X, 1) float32: u.
    """
    import tensorflow as tf

    alpha, beta, weight_z = tf.unstack(weights)
    # A difference is at most twice as long as its image, so ||grad||^2 <= 4 (weight_z^2 + 2).
    squared_norm = 2 * 4 * (tf.square(weight_z) + 2)

    def shrunk(dual: Gradient, radius: Any) -> Gradient:
        """Every voxel's vector, drawn back into the ball of that radius."""
        length = tf.sqrt(sum(tf.square(part) for part in dual))
        z, y, x = (part * (radius / tf.maximum(length, radius + _TINY)) for part in dual)
        return z, y, x

    def step(
        u: Any, ahead: Any, sparse: Gradient, similar: Gradient, tau: Any
    ) -> tuple[Any, Any, Gradient, Gradient, Any]:
        sigma = 1 / (tau * squared_norm)
        slope = gradient(ahead, weight_z)
        z, y, x = (q + sigma * d for q, d in zip(sparse, slope, strict=True))
        sparse = shrunk((z, y, x), alpha)
        slope = gradient(ahead - prior, weight_z)
        z, y, x = (q + sigma * d for q, d in zip(similar, slope, strict=True))
        similar = shrunk((z, y, x), beta)
        z, y, x = (p + q for p, q in zip(sparse, similar, strict=True))
        after = (u + tau * (divergence((z, y, x), weight_z) + noisy)) / (1 + tau)
        theta = tf.math.rsqrt(1 + 2 * tau)
        return after, after + theta * (after - u), sparse, similar, theta * tau

    nothing = tf.zeros_like(noisy)
    start = (noisy, noisy, (nothing,) * 3, (nothing,) * 3, tf.cast(_FIRST_STEP, tf.float32))
    return tf.while_loop(
        lambda *_: True, step, start, parallel_iterations=1, maximum_iterations=iterations
    )[0]


def gradient(u: Any, weight_z: Any) -> Gradient:
    """Differences to the next voxel along Z, Y and X, those along Z times their weight.

    There is none at the last voxel, which is Neumann's condition at the border.

    Args:
        u: (B, Z, Y, X, C).
        weight_z: of the differences along Z.

    Returns:
        Three tensors of u's shape.
    """
    z, y, x = (
        _beside(_without(u, axis, first=True) - _without(u, axis, first=False), axis, before=0)
        for axis in _AXES
    )
    return weight_z * z, y, x


def divergence(dual: Gradient, weight_z: Any) -> Any:
    """The negative adjoint of `gradient`: three tensors (B, Z, Y, X, C) -> one."""
    parts = []
    for part, axis in zip((weight_z * dual[0], *dual[1:]), _AXES, strict=True):
        inner = _without(part, axis, first=False)
        parts.append(_beside(inner, axis, before=0) - _beside(inner, axis, before=1))
    return sum(parts)


def _without(u: Any, axis: int, *, first: bool) -> Any:
    """Without the first or else the last voxel along an axis."""
    kept = slice(1, None) if first else slice(None, -1)
    return u[(slice(None),) * axis + (kept,)]


def _beside(u: Any, axis: int, *, before: int) -> Any:
    """One voxel longer along an axis: a zero before it (1) or after it (0)."""
    import tensorflow as tf

    margins = [(0, 0)] * 5
    margins[axis] = (before, 1 - before)
    return tf.pad(u, margins)
