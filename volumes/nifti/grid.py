"""Grids: whether the voxels of two scans lie at the same places."""

from __future__ import annotations

from itertools import product

import numpy as np

from volumes.nifti.scan import Scan

_SAME_VOXELS = 0.1  # rounding of headers on export displaces corners by less


def displacement_mm(one: Scan, other: Scan) -> float:
    """The largest distance of two corners of scans of one shape, in canonical order.

    Corners of voxels, not centres: a single slice also has a thickness.
    """
    corners = np.array([(*c, 1) for c in product(*((-0.5, n - 0.5) for n in one.shape))])
    apart = (corners @ (other.canonical_affine - one.canonical_affine).T)[:, :3]
    return float(np.linalg.norm(apart, axis=1).max())


def on_one_grid(one: Scan, other: Scan) -> bool:
    """Whether two scans have one shape, and no corner is displaced by over a tenth of a voxel.

    The order of the stored axes may differ.
    """
    if one.shape != other.shape:
        return False
    return displacement_mm(one, other) <= _SAME_VOXELS * min(one.spacing_mm)
