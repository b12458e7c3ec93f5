"""Rounding: how far an estimate in lower precision is from that in float32, measured on a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.inference.predictor import Predictor
from engine.inference.tiling import Blocks, plan
from engine.recipe.recipe import Recipe
from volumes.boxes import Box
from volumes.tiles import padded

_SLICES = 8
_MOST_RMSE_HU = 1.0  # the step of most files: what is below is lost in their rounding


@dataclass(frozen=True)
class Rounding:
    """The difference between the estimates of one network in lower precision and in float32.

    Attributes:
        precision: bfloat16 or float16.
        rmse_hu: root mean squared difference over the voxels that are no padding.
        largest_hu: its largest magnitude.
        slices: first and last slice that were compared, counted from 0.
    """

    precision: str
    rmse_hu: float
    largest_hu: float
    slices: tuple[int, int]

    def about(self) -> dict[str, Any]:
        """Plain data, for the sidecar."""
        return {
            "compute": self.precision,
            "largest_difference_hu": float(f"{self.largest_hu:.3g}"),
            "rmse_difference_hu": float(f"{self.rmse_hu:.3g}"),
            "slices": list(self.slices),
        }

    def __str__(self) -> str:
        """The difference in words."""
        return (
            f"{self.precision} changes the estimate of float32 by {self.rmse_hu:.2g} HU (RMSE), at "
            f"most {self.largest_hu:.2g} HU, in slices {self.slices[0]} to {self.slices[1]}"
        )

    def warnings(self) -> list[str]:
        """A warning if the difference is more than a file's own rounding."""
        if self.rmse_hu <= _MOST_RMSE_HU:
            return []
        return [f"{self}; use --precision float32 for what is measured or published"]


def rounding(
    predictor: Predictor, noisy: Blocks, prior: Blocks | None, mask: npt.NDArray[np.bool_],
    recipe: Recipe, *, anywhere: bool,
) -> Rounding | None:  # fmt: skip
    """Measures the difference on the middle slices of a scan. None in float32, which needs none.

    Args:
        predictor: in lower precision.
        noisy: blocks of the scan.
        prior: blocks of the prior, if any.
        mask: (Z, Y, X), whether a voxel is padding.
        recipe: of the network.
        anywhere: whether the tiles are the same on every machine.
    """
    if getattr(predictor, "precision", "float32") == "float32":
        return None
    depth, y, x = mask.shape
    count = min(padded((_SLICES,) * 3, recipe.network.stride)[0], depth)
    first = (depth - count) // 2

    def within(blocks: Blocks) -> Blocks:
        return lambda box: blocks(Box((box.start[0] + first, *box.start[1:]), box.shape))

    tiles = plan((count, y, x), recipe.network, anywhere=anywhere)
    blocks = within(noisy), None if prior is None else within(prior)
    lower, exact = (each.volume(tiles, *blocks) for each in (predictor, predictor.exact))
    kept = ~mask[first : first + count]
    apart = np.abs(lower[kept] - exact[kept]).astype(np.float64) * recipe.window.width_hu
    rmse, largest = (np.sqrt(np.mean(apart**2)), apart.max()) if apart.size else (0.0, 0.0)
    slices = first, first + count - 1
    return Rounding(predictor.precision, float(rmse), float(largest), slices)
