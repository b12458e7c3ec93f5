"""The residual, input - estimate: whether it contains anatomy besides noise.

White noise correlates neither with its neighbours nor with the anatomy. If the residual does,
structure was removed with the noise, or the noise was not white. A residual that is larger at edges
contains edges. A residual that is smaller there is no leak: the network left noise at edges. On
real volumes the limit separates removing the noise itself, which is never reported, from a Gaussian
blur, which always is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.nifti import Scan, Stored
from volumes.volume import AIR_HU, Unit

Mask = npt.NDArray[np.bool_]

ANATOMY = 0.05  # a larger correlation is reported


def describe_residual(
    scan: Scan, before: Stored, after: Stored, padding: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Statistics of the residual, input - output, over measured voxels, a slice at a time.

    Args:
        scan: gives the scaling.
        before: stored values in canonical order.
        after: likewise, of the output.
        padding: (Z, Y, X) mask of the voxels to leave out.

    Returns:
        Mean, standard deviation and largest magnitude in HU; the correlation of neighbours within
        slices; that of the residual's magnitude with the output's edges; and that of the residual
        with the output. A correlation with a constant is 0.
    """
    alone, neighbours, edges, anatomy = (_Correlation() for _ in range(4))
    largest = 0.0
    for was, became, gaps in zip(before, after, padding, strict=True):
        measured = ~gaps
        image = np.where(measured, scan.hu(became), np.float32(AIR_HU))
        residual = np.where(measured, scan.hu(was), np.float32(AIR_HU)) - image
        alone.add(residual[measured], residual[measured])
        neighbours.add(*_pairs(residual, measured))
        neighbours.add(*_pairs(residual.T, measured.T))
        edges.add(np.abs(residual[measured]), _slope(image)[measured])
        anatomy.add(residual[measured], image[measured])
        largest = max(largest, float(np.abs(residual).max(initial=0)))
    return {
        "mean_hu": round(alone.mean, 3),
        "std_hu": round(alone.deviation, 3),
        "max_hu": round(largest, 3),
        "autocorrelation": round(neighbours.value, 4),
        "at_edges": round(edges.value, 4),
        "with_anatomy": round(anatomy.value, 4),
    }


def autocorrelation(residual: Unit, within: Mask | None = None) -> float:
    """Correlation of neighbouring voxels within slices; 0 for white noise.

    Args:
        residual: (Z, Y, X).
        within: (Z, Y, X) mask of the voxels to take; None takes all.
    """
    neighbours = _Correlation()
    inside = np.ones(residual.shape, bool) if within is None else within
    for slice_, taken in zip(residual, inside, strict=True):
        neighbours.add(*_pairs(slice_, taken))
        neighbours.add(*_pairs(slice_.T, taken.T))
    return neighbours.value


def edge_correlation(residual: Unit, clean: Unit, within: Mask | None = None) -> float:
    """Correlation of the residual's magnitude with the clean image's edges; 0 for noise alone.

    Args:
        residual: (Z, Y, X).
        clean: (Z, Y, X); its edges are where the gradient within a slice is large.
        within: (Z, Y, X) mask of the voxels to take; None takes all.
    """
    edges = _Correlation()
    inside = np.ones(residual.shape, bool) if within is None else within
    for slice_, image, taken in zip(residual, clean, inside, strict=True):
        edges.add(np.abs(slice_[taken]), _slope(image)[taken])
    return edges.value


def leak_warnings(found: dict[str, float]) -> list[str]:
    """Warnings about a residual, from the result of `describe_residual`."""
    # Edges are more sensitive: a blur keeps the mean, so its residual hardly follows the values.
    r, where = max(
        ((found["with_anatomy"], "values"), (max(found["at_edges"], 0.0), "edges")),
        key=lambda one: abs(one[0]),
    )
    if abs(r) <= ANATOMY:
        return []
    text = f"the residual correlates with the anatomy (its {where}, r = {r:.2f})"
    return [f"{text}: look at what was removed"]


def alike(one: dict[str, Any], other: dict[str, float]) -> bool:
    """Whether two descriptions are equal up to the rounding of sums."""
    try:
        return set(one) == set(other) and all(
            abs(one[name] - value) <= 2e-3 for name, value in other.items()
        )
    except TypeError:
        return False


def _slope(image: Unit) -> Unit:
    """(Y, X) magnitude of the gradient of a slice."""
    from scipy import ndimage  # not at the top: importing it would delay error messages

    return np.asarray(np.hypot(ndimage.sobel(image, axis=0), ndimage.sobel(image, axis=1)))


def _pairs(residual: Any, measured: Any) -> tuple[Any, Any]:
    both = measured[1:] & measured[:-1]
    return residual[1:][both], residual[:-1][both]


class _Correlation:
    """Pearson's correlation of two quantities, accumulated piece by piece."""

    def __init__(self) -> None:
        self._count = 0
        self._sums = np.zeros(5)

    def add(self, one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> None:
        a, b = one.astype(np.float64), other.astype(np.float64)
        self._count += len(a)
        self._sums += [a.sum(), b.sum(), a @ a, b @ b, a @ b]

    @property
    def mean(self) -> float:
        """Mean of the first quantity."""
        return float(self._sums[0]) / max(self._count, 1)

    @property
    def deviation(self) -> float:
        """Standard deviation of the first quantity."""
        return math.sqrt(max(float(self._sums[2]) / max(self._count, 1) - self.mean**2, 0.0))

    @property
    def value(self) -> float:
        """The correlation; 0 if a quantity is constant."""
        if not self._count:
            return 0.0
        a, b, aa, bb, ab = (float(part) / self._count for part in self._sums)
        spread = max(aa - a * a, 0.0) * max(bb - b * b, 0.0)
        return max(-1.0, min(1.0, (ab - a * b) / math.sqrt(spread))) if spread > 0 else 0.0
