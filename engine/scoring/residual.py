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

from volumes.boxes import slices_of
from volumes.nifti import Scan, Stored
from volumes.volume import AIR_HU, Unit

Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.float64]

_ROWS = 64  # of a slice at a time: what is computed of them stays in the processor's cache

ANATOMY = 0.05  # a larger correlation is reported


class ResidualStatistics:
    """Statistics of the residual, input - output, over measured voxels, collected by slice.

    The slices may come in any order: their sums are kept apart, and added in order.

    Args:
        depth: slices of the scan.
    """

    def __init__(self, depth: int) -> None:
        self._neighbours, self._edges, self._anatomy = (_Correlation(depth) for _ in range(3))
        self._largest = 0.0

    def add(self, z: int, before_hu: Unit, after_hu: Unit, padding: Mask) -> None:
        """Adds slice `z`: (Y, X) HU of input and output, and the mask of the voxels to leave out.

        What lies under the mask may hold any value.
        """
        for first in range(0, len(after_hu), _ROWS):
            above, end = max(first - 1, 0), first + _ROWS
            rows = slice(above, end + 1)  # one more at each end, for their neighbours
            own = slice(first - above, end - above)
            self._add_rows(z, before_hu[rows], after_hu[rows], padding[rows], own)

    def _add_rows(self, z: int, before_hu: Unit, after_hu: Unit, padding: Mask, own: slice) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            residual, image = (before_hu - after_hu).astype(np.float64), after_hu.astype(np.float64)
        measured = None
        if padding.any():
            image[padding], residual[padding] = AIR_HU, 0
            measured = ~padding
        taken, magnitude = None if measured is None else measured[own], np.abs(residual[own])
        self._anatomy.add(z, residual[own], image[own], taken)
        self._edges.add(z, magnitude, _slope(image)[own], taken)
        self._neighbours.add_neighbours(z, residual[own], taken, axis=1)
        own = slice(own.start, own.stop + 1)
        taken = None if measured is None else measured[own]
        self._neighbours.add_neighbours(z, residual[own], taken, axis=0)
        self._largest = max(self._largest, float(magnitude.max(initial=0)))

    def summary(self) -> dict[str, float]:
        """As `describe_residual`."""
        return {
            "mean_hu": round(self._anatomy.mean, 3),
            "std_hu": round(self._anatomy.deviation, 3),
            "max_hu": round(self._largest, 3),
            "autocorrelation": round(self._neighbours.value, 4),
            "at_edges": round(self._edges.value, 4),
            "with_anatomy": round(self._anatomy.value, 4),
        }


def describe_residual(
    scan: Scan, before: Stored, after: Stored, padding: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Statistics of the residual, input - output, over measured voxels.

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
    found = ResidualStatistics(len(before))
    pairs = zip(slices_of(before), slices_of(after), padding, strict=True)
    for z, (was, became, gaps) in enumerate(pairs):
        found.add(z, scan.hu(was), scan.hu(became), gaps)
    return found.summary()


def autocorrelation(residual: Unit, within: Mask | None = None) -> float:
    """Correlation of neighbouring voxels within slices; 0 for white noise.

    Args:
        residual: (Z, Y, X).
        within: (Z, Y, X) mask of the voxels to take; None takes all.
    """
    neighbours = _Correlation(len(residual))
    for z, slice_ in enumerate(residual):
        taken = None if within is None else within[z]
        for axis in (0, 1):
            neighbours.add_neighbours(z, slice_, taken, axis)
    return neighbours.value


def edge_correlation(residual: Unit, clean: Unit, within: Mask | None = None) -> float:
    """Correlation of the residual's magnitude with the clean image's edges; 0 for noise alone.

    Args:
        residual: (Z, Y, X).
        clean: (Z, Y, X); its edges are where the gradient within a slice is large.
        within: (Z, Y, X) mask of the voxels to take; None takes all.
    """
    edges = _Correlation(len(residual))
    for z, (slice_, image) in enumerate(zip(residual, clean, strict=True)):
        taken = None if within is None else within[z]
        edges.add(z, np.abs(slice_), _slope(image.astype(np.float64)), taken)
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


def _slope(image: Plane) -> Plane:
    """(Y, X) magnitude of the gradient of a slice, after Sobel, mirrored at its border."""
    beyond = np.pad(image, 1, mode="symmetric")
    along_y, along_x = beyond[2:] - beyond[:-2], beyond[:, 2:] - beyond[:, :-2]
    squares = np.zeros_like(image)
    for parts in (
        (along_y[:, :-2], along_y[:, 1:-1], along_y[:, 2:]),
        (along_x[:-2], along_x[1:-1], along_x[2:]),
    ):
        slope = parts[0] + parts[2]
        slope += parts[1]
        slope += parts[1]
        slope *= slope
        squares += slope
    return np.sqrt(squares, out=squares)


class _Correlation:
    """Pearson's correlation of two quantities, collected by slice.

    Args:
        depth: slices of the scan.
    """

    def __init__(self, depth: int) -> None:
        self._sums = np.zeros((depth, 6))

    def add(self, z: int, one: Any, other: Any, within: Mask | None) -> None:
        """Adds (Y, X) quantities of slice `z`; None takes all voxels."""
        count = one.size
        if within is not None:
            one, other = np.where(within, one, 0), np.where(within, other, 0)
            count = np.count_nonzero(within)
        a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
        # Row by row: BLAS wakes all its threads for a longer product, which takes far longer.
        products = (np.vecdot(*pair).sum() for pair in ((a, a), (b, b), (a, b)))
        self._sums[z] += [count, a.sum(), b.sum(), *products]

    def add_neighbours(self, z: int, slice_: Any, within: Mask | None, axis: int) -> None:
        """Adds the neighbours along an axis of (Y, X) slice `z`."""
        before, after = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
        both = None if within is None else within[after] & within[before]
        self.add(z, slice_[after], slice_[before], both)

    def _means(self) -> list[float]:
        """Number of voxels, and means of a, b, aa, bb, ab; zeros if there are none."""
        count, *sums = map(float, self._sums.sum(axis=0))
        return [count, *(part / max(count, 1) for part in sums)]

    @property
    def mean(self) -> float:
        """Mean of the first quantity."""
        return self._means()[1]

    @property
    def deviation(self) -> float:
        """Standard deviation of the first quantity."""
        return math.sqrt(max(self._means()[3] - self.mean**2, 0.0))

    @property
    def value(self) -> float:
        """The correlation; 0 if a quantity is constant."""
        _, a, b, aa, bb, ab = self._means()
        spread = max(aa - a * a, 0.0) * max(bb - b * b, 0.0)
        return max(-1.0, min(1.0, (ab - a * b) / math.sqrt(spread))) if spread > 0 else 0.0
