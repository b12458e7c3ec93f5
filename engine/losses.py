"""Losses: the distance of an estimate from the clean image, one number per example.

A loss takes (B, Z, Y, X, C) tensors and returns (B,). Losses can be scaled and added, also to plain
functions: `0.8 * losses.l1 + 0.2 * losses.ssim`.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Function = Callable[[Any, Any], Any]

_CHARBONNIER = 1e-3  # window units: 1.4 HU of 1400
_SSIM_PIXELS = 11


class _Addable(ABC):
    """What can be scaled by a number and added to other losses."""

    @abstractmethod
    def __call__(self, clean: Any, estimate: Any) -> Any: ...

    def __rmul__(self, weight: float) -> Sum:
        return Sum(tuple(Term(weight * term.weight, term.loss) for term in _terms_of(self)))

    def __add__(self, other: Function) -> Sum:
        return Sum((*_terms_of(self), *_terms_of(other)))

    def __radd__(self, other: Function) -> Sum:
        return Sum((*_terms_of(other), *_terms_of(self)))


class Loss(_Addable):
    """A function of (clean, estimate) that can be scaled and added.

    Use it as a decorator for a loss of your own that is to be scaled.

    Example:
        >>> @Loss
        ... def bias(clean, estimate):
        ...     return abs(estimate.mean(axis=(1, 2, 3, 4)) - clean.mean(axis=(1, 2, 3, 4)))
        >>> print(mean_squared_error + 0.1 * bias)
        mean_squared_error + 0.1 * bias
    """

    __name__: str

    def __init__(self, function: Function) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, clean: Any, estimate: Any) -> Any:
        """The loss: (B, Z, Y, X, C) tensors -> (B,)."""
        return self._function(clean, estimate)

    def __repr__(self) -> str:
        return self.__name__


@dataclass(frozen=True)
class Term:
    """A loss and its weight in a sum."""

    weight: float
    loss: Function

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"the weight of a loss must not be negative, not {self.weight}")

    def __str__(self) -> str:
        name = getattr(self.loss, "__name__", str(self.loss))
        return name if self.weight == 1 else f"{self.weight:g} * {name}"


@dataclass(frozen=True)
class Sum(_Addable):
    """A weighted sum of losses, itself a loss.

    Example:
        >>> print(0.8 * l1 + 0.2 * ssim)
        0.8 * mean_absolute_error + 0.2 * ssim
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise ValueError("a sum of losses needs a term")

    def __call__(self, clean: Any, estimate: Any) -> Any:
        """The weighted sum: (B, Z, Y, X, C) tensors -> (B,)."""
        first, *others = (term.weight * term.loss(clean, estimate) for term in self.terms)
        return sum(others, first)

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))


def _terms_of(loss: Function) -> tuple[Term, ...]:
    if not callable(loss):
        raise TypeError(f"{loss!r} is no loss")
    return loss.terms if isinstance(loss, Sum) else (Term(1.0, loss),)


@Loss
def mean_squared_error(clean: Any, estimate: Any) -> Any:
    """The mean squared error: (B, Z, Y, X, C) tensors -> (B,).

    Args:
        clean: float32, in window units.
        estimate: of the same shape.

    Returns:
        In squared window units.

    Example:
        >>> import numpy as np
        >>> clean, estimate = np.zeros((2, 1, 8, 8, 1)), np.full((2, 1, 8, 8, 1), 0.5)
        >>> mean_squared_error(clean, estimate).numpy().tolist()
        [0.25, 0.25]
    """
    import tensorflow as tf

    return tf.reduce_mean(tf.square(estimate - clean), axis=[1, 2, 3, 4])


@Loss
def mean_absolute_error(clean: Any, estimate: Any) -> Any:
    """The mean absolute error: (B, Z, Y, X, C) tensors -> (B,).

    Args:
        clean: float32, in window units.
        estimate: of the same shape.

    Returns:
        In window units.

    Example:
        >>> import numpy as np
        >>> clean, estimate = np.zeros((2, 1, 8, 8, 1)), np.full((2, 1, 8, 8, 1), 0.5)
        >>> mean_absolute_error(clean, estimate).numpy().tolist()
        [0.5, 0.5]
    """
    import tensorflow as tf

    return tf.reduce_mean(tf.abs(estimate - clean), axis=[1, 2, 3, 4])


l1 = mean_absolute_error


@Loss
def charbonnier(clean: Any, estimate: Any) -> Any:
    """The mean of sqrt(error^2 + eps^2) - eps: (B, Z, Y, X, C) tensors -> (B,).

    A smooth mean absolute error (Charbonnier et al., ICIP 1994). eps is 0.001 of the window:
    smaller errors count squared.

    Args:
        clean: float32, in window units.
        estimate: of the same shape.

    Returns:
        In window units.

    Example:
        >>> import numpy as np
        >>> clean, estimate = np.zeros((2, 1, 8, 8, 1)), np.full((2, 1, 8, 8, 1), 0.5)
        >>> charbonnier(clean, estimate).numpy().round(3).tolist()
        [0.499, 0.499]
    """
    import tensorflow as tf

    error = tf.sqrt(tf.square(estimate - clean) + _CHARBONNIER**2) - _CHARBONNIER
    return tf.reduce_mean(error, axis=[1, 2, 3, 4])


@Loss
def ssim(clean: Any, estimate: Any) -> Any:
    """One minus the mean SSIM of the slices: (B, Z, Y, X, C) tensors -> (B,).

    Wang et al., IEEE Trans. Image Process. 13 (2004), with a data range of 1, as in the scores: a
    Gaussian window of 11 x 11 pixels, or of the crop where that is smaller. Add it to another loss:
    alone it hardly sees a shift of the mean where the image is bright.

    Args:
        clean: float32, in window units.
        estimate: of the same shape.

    Example:
        >>> import numpy as np
        >>> clean = np.random.default_rng(0).random((2, 1, 16, 16, 1), np.float32)
        >>> ssim(clean, clean).numpy().tolist()
        [0.0, 0.0]
    """
    import tensorflow as tf

    batch, depth, *plane, channels = clean.shape
    one, other = (
        tf.reshape(image, (batch * depth, *plane, channels)) for image in (clean, estimate)
    )
    pixels = min(_SSIM_PIXELS, *plane)
    found = tf.image.ssim(one, other, max_val=1.0, filter_size=pixels)
    return 1.0 - tf.reduce_mean(tf.reshape(found, (batch, depth)), axis=1)


BY_NAME: dict[str, Function] = {
    "mean_squared_error": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "l1": l1,
    "charbonnier": charbonnier,
    "ssim": ssim,
}


def parse_loss(text: str) -> Function:
    """The loss that the command line names: `l1`, or a sum such as `0.8*l1+0.2*ssim`.

    Raises:
        ValueError: if it names no loss.

    Example:
        >>> parse_loss("l1"), str(parse_loss("0.8*l1+0.2*ssim"))
        (mean_absolute_error, '0.8 * mean_absolute_error + 0.2 * ssim')
    """
    terms = []
    for part in text.split("+"):
        weight, times, name = part.rpartition("*")
        try:
            terms.append(Term(float(weight) if times else 1.0, BY_NAME[name.strip()]))
        except (KeyError, ValueError) as error:
            known = ", ".join(BY_NAME)
            raise ValueError(
                f"takes one of {known}, or a sum such as 0.8*l1+0.2*ssim, not {text!r}"
            ) from error
    (first, *others) = terms
    return Sum(tuple(terms)) if others or first.weight != 1 else first.loss
