"""Widening: the weights of a network become those of a wider one that computes the same.

Chen et al., "Net2Net: accelerating learning via knowledge transfer", ICLR 2016, in a simple form: a
new channel starts with random weights, and no old channel reads from it yet. This holds where
channels are never counted from the end or normalised together: a network whose joins are sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@runtime_checkable
class Widening(Protocol):
    """A network that can start from a narrower one."""

    def widens(self, narrow: Any) -> bool:
        """Whether a network is this one with fewer channels."""


def widened(narrow: Mapping[str, Array], wide: Mapping[str, Array]) -> dict[str, Array]:
    """The kernels of a wider network that computes what a narrower one does.

    Kernels that are not smaller in every extent are returned as they are.

    Args:
        narrow: kernels by name, (Z, Y, X, in, out), those of transposed convolutions, whose names
            have a part that begins with `raise`, (Z, Y, X, out, in).
        wide: those of the wider network before training, of the same names.

    Example:
        >>> wide = {"head/kernel": np.full((1, 1, 1, 2, 3), 7.0)}
        >>> narrow = {"head/kernel": np.ones((1, 1, 1, 1, 2))}
        >>> widened(narrow, wide)["head/kernel"][0, 0, 0].tolist()
        [[1.0, 1.0, 7.0], [0.0, 0.0, 7.0]]
    """
    found = {}
    for name, fresh in wide.items():
        if not all(few <= many for few, many in zip(narrow[name].shape, fresh.shape, strict=True)):
            found[name] = narrow[name]
            continue
        order = (0, 1, 2, 4, 3) if "/raise" in f"/{name}" else (0, 1, 2, 3, 4)
        before, after = narrow[name].transpose(order), fresh.transpose(order).copy()
        inputs, outputs = before.shape[3:]
        after[..., inputs:, :outputs] = 0  # old channels do not read from new ones
        after[..., :inputs, :outputs] = before
        found[name] = np.ascontiguousarray(after.transpose(order))
    return found
