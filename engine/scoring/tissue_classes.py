"""Tissue classes: what the voxels of a scan show, told apart by their HU."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

# Half-open ranges of HU. What lies between lung and fat is neither: edges of lungs, bowel content.
TISSUE_HU = {
    "air": (-math.inf, -950.0),
    "lung": (-950.0, -500.0),
    "fat": (-150.0, -30.0),
    "soft_tissue": (-30.0, 150.0),
    "bone": (150.0, math.inf),
}


def is_tissue(name: str, hu: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether HU, of any shape, are those of a tissue class.

    Example:
        >>> is_tissue("fat", [-1000, -100, 40]).tolist()
        [False, True, False]
    """
    low, high = TISSUE_HU[name]
    values = np.asarray(hu)
    return np.asarray((values >= low) & (values < high))
