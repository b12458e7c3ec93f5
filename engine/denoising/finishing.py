"""Finishing: the network's estimate becomes voxels of the output, and is described.

Everything that is done to a voxel after the network is done here, once, a slice at a time: a slice
stays in the processor's cache.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.denoising.bone import BoneWeight
from engine.inference.tiling import Blocks
from engine.scoring.residual import ResidualStatistics, describe_residual
from volumes.boxes import Box, read_box
from volumes.nifti import Scan, Stored
from volumes.volume import AIR_HU, SpacingMm, Unit
from volumes.window import Window

_SLICES = 8  # whose bone is sought together: neighbouring slices are then read few times

Mask = npt.NDArray[np.bool_]


class Finishing:
    """The voxels of an output, and what is measured while they are made.

    Args:
        scan: gives the scaling.
        before: stored voxels of the input in canonical order.
        after: those of the output. Unchanged voxels keep their bits.
        padding: (Z, Y, X) mask of the voxels that stay.
        noisy: blocks of what the network is given.
        window: HU <-> window units.
        strength: 0 returns the input, 1 is the network's estimate.
    """

    def __init__(
        self, scan: Scan, before: Stored, after: Stored, padding: Mask, noisy: Blocks,
        window: Window, strength: float,
    ) -> None:  # fmt: skip
        self._scan, self._before, self._after, self._padding = scan, before, after, padding
        self._noisy, self._window, self._strength = noisy, window, np.float32(strength)
        self._keep = BoneWeight(window, scan.spacing_mm)
        self._counts = {"above_window": 0, "changed": 0, "saturated": 0}
        self._change, self._residual = _Change(), ResidualStatistics(len(before))
        self._described = np.zeros(len(before), bool)

    def finish(self, box: Box, estimate: Unit) -> None:
        """Writes the voxels of a box.

        Args:
            box: of the scan.
            estimate: of the network in this box, in window units.
        """
        (top, y, x), (depth, height, width) = box.start, box.shape
        for z in range(0, depth, _SLICES):
            part = Box((top + z, y, x), (min(_SLICES, depth - z), height, width))
            self._finish(part, estimate[z : z + _SLICES])

    def _finish(self, box: Box, estimate: Unit) -> None:
        place = self._keep.around(box)
        around = self._noisy(place)
        weight = self._keep.weight(around, estimate, lambda: self._own_hu(place))
        seen = self._keep.within(around)
        stored = np.array(self._before[box.slices], order="C")
        for i, z in enumerate(range(box.start[0], box.start[0] + box.shape[0])):
            gaps = self._padding[z][box.slices[1:]]
            before_hu = self._scan.hu(stored[i])
            self._finish_slice(stored[i], before_hu, seen[i], estimate[i], weight[i], gaps)
            if box.shape[1:] == self._padding.shape[1:]:
                self._residual.add(z, before_hu, self._scan.hu(stored[i]), gaps)
                self._described[z] = True
        self._after[box.slices] = stored

    def _own_hu(self, box: Box) -> Unit:
        """HU of a block of the scan; air where it has padding."""
        hu = self._scan.hu(np.ascontiguousarray(read_box(self._before, box)))
        hu[read_box(self._padding, box)] = AIR_HU
        return hu

    def _finish_slice(
        self, stored: Stored, hu: Unit, seen: Unit, estimate: Unit, weight: Unit, gaps: Mask
    ) -> None:
        """Replaces the stored voxels of a slice, and counts them."""
        wanted = corrected(hu, seen, estimate, self._strength * (1 - weight), self._window)
        # Unchanged voxels keep their bits: they are not rounded to the datatype again.
        moved = wanted != hu
        moved &= ~gaps
        with np.errstate(invalid="ignore", over="ignore"):  # padding may hold any value
            became, saturated = self._scan.stored(wanted)
            if saturated:
                saturated = self._scan.stored(wanted[moved])[1]
            wanted -= hu
        self._counts["above_window"] += int(np.count_nonzero(weight == 1))
        self._counts["changed"] += int(np.count_nonzero((became != stored) & moved))
        self._counts["saturated"] += saturated
        self._change.add(wanted, moved)  # the change by now
        np.copyto(stored, became, where=moved)

    def measured(self) -> dict[str, Any]:
        """Counts of voxels, the distribution of the change, and the residual, for the sidecar."""
        padding = int(np.count_nonzero(self._padding))
        residual = self._residual.summary()
        if not self._described.all():  # the tiles were no whole slices
            scan, before, after = self._scan, self._before, self._after
            residual = describe_residual(scan, before, after, self._padding)
        return {
            "voxels": {"total": self._padding.size, **self._counts, "padding": padding},
            "change_hu": self._change.summary(),
            "residual": residual,
        }


def corrected(hu: Unit, seen: Unit, estimate: Unit, share: Unit, window: Window) -> Unit:
    """HU after the network's correction.

    The correction is added, so that a network that returns its input changes no bit. Where the
    input was clipped, the estimate replaces the voxel.

    Args:
        hu: of the scan.
        seen: what the network was given, in window units.
        estimate: of the network, in window units.
        share: of the correction that each voxel gets.
        window: HU <-> window units.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # padding may hold any value
        found = estimate - seen
        found *= share * np.float32(window.width_hu)
        found += hu
        clipped = seen != window.unit(hu)
        if clipped.any():
            kept = (1 - share[clipped]) * hu[clipped]
            found[clipped] = kept + share[clipped] * window.hu(estimate[clipped])
    return found


def finished(
    hu: Unit, seen: Unit, estimate: Unit, window: Window, spacing_mm: SpacingMm,
    strength: float = 1.0,
) -> Unit:  # fmt: skip
    """The HU that `engine denoise` writes of an estimate, before they are rounded: bone stays.

    Args:
        hu: (Z, Y, X) of the scan.
        seen: what the network was given, in window units.
        estimate: of the network, in window units.
        window: HU <-> window units.
        spacing_mm: distance of neighbouring voxels along (Z, Y, X).
        strength: 0 returns the scan, 1 is the network's estimate.
    """
    keep = BoneWeight(window, spacing_mm)
    found = np.empty_like(hu)
    depth, *plane = hu.shape
    for z in range(0, depth, _SLICES):
        part = slice(z, min(z + _SLICES, depth))
        box = Box((z, 0, 0), (part.stop - z, plane[0], plane[1]))
        place = keep.around(box)
        around, own_hu = read_box(seen, place), partial(read_box, hu, place)
        weight = keep.weight(around, estimate[part], own_hu)
        found[part] = corrected(
            hu[part], seen[part], estimate[part], np.float32(strength) * (1 - weight), window
        )
    return found


class _Change:
    """The distribution of the change in HU, collected slice by slice."""

    _EDGES = np.arange(-5000.0, 5001.0, 1.0)

    def __init__(self) -> None:
        self._histogram = np.zeros(len(self._EDGES) - 1, np.int64)
        self._sum = self._squares = 0.0

    def add(self, change: Unit, moved: Mask) -> None:
        """Adds the change of the voxels that moved. It is replaced by 0 elsewhere."""
        still = ~moved
        change[still] = 0
        exact = change.astype(np.float64)
        self._sum += float(exact.sum())
        self._squares += float(np.vecdot(exact, exact).sum())
        bins = np.floor(np.clip(change, -4999, 4999)).astype(np.intp)
        bins -= int(self._EDGES[0])
        self._histogram += np.bincount(bins.ravel(), minlength=self._histogram.size)
        self._histogram[-int(self._EDGES[0])] -= np.count_nonzero(still)

    def summary(self) -> dict[str, float]:
        """Mean, standard deviation and percentiles; nothing if no voxel moved."""
        count = int(self._histogram.sum())
        if not count:
            return {}
        share = np.concatenate([[0.0], np.cumsum(self._histogram) / count])
        mean = self._sum / count
        at = {f"p{p:g}": round(self._percentile(share, p), 2) for p in _PERCENT}
        spread = float(np.sqrt(max(self._squares / count - mean**2, 0)))
        return {"mean": round(mean, 3), "std": round(spread, 3), **at}

    def _percentile(self, share: npt.NDArray[np.float64], percent: float) -> float:
        """The percentile, interpolated within its bin; `share` lies below each edge of the bins."""
        i = int(np.searchsorted(share, percent / 100)) - 1
        within = (percent / 100 - share[i]) / (share[i + 1] - share[i])
        return float(self._EDGES[i] + within * (self._EDGES[i + 1] - self._EDGES[i]))


_PERCENT = (0.1, 1, 50, 99, 99.9)
