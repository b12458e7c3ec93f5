"""HU fidelity: how far an estimate shifts the HU of tissues, and which voxels cross thresholds.

PSNR hides both. Scores of coronary calcium count voxels above 130 HU (Agatston et al., 1990), those
of emphysema voxels of the lungs below -950 HU (Gevenois et al., 1996).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.scoring.tissue_classes import TISSUE_HU, is_tissue
from volumes.volume import HU, Unit

Mask = npt.NDArray[np.bool_]

CALCIUM_HU, EMPHYSEMA_HU = 130.0, -950.0
_OPEN_HU = -500.0  # air and lungs


def hu_fidelity(
    clean_hu: HU, estimate_hu: Unit, measured: Mask, highest_hu: float
) -> dict[str, float]:
    """Mean shift in HU of each tissue class, and the share of voxels that cross each threshold.

    A class holds the voxels whose clean value is in its range, see `TISSUE_HU`. Voxels above
    `highest_hu` are left out: images that are clipped do not hold them. Voxels outside the patient
    cross no threshold: air is connected to the border of its slice there.

    Args:
        clean_hu: (Z, Y, X).
        estimate_hu: (Z, Y, X).
        measured: (Z, Y, X) mask of the voxels that are no padding.
        highest_hu: the top of the window.

    Returns:
        By name of the score: shifts in HU, estimate - clean, and shares in percent. NaN for a class
        without voxels, and for a threshold above the window.
    """
    within = measured & (clean_hu <= highest_hu)
    error = estimate_hu.astype(np.float64) - clean_hu
    found = {
        f"shift_{name}_hu": _mean(error[within & is_tissue(name, clean_hu)]) for name in TISSUE_HU
    }
    patient = measured & ~outside(clean_hu)
    for name, threshold in (("130", CALCIUM_HU), ("minus_950", EMPHYSEMA_HU)):
        crossed = (clean_hu >= threshold) != (estimate_hu >= threshold)
        share = 100 * _mean(crossed[patient]) if threshold < highest_hu else float("nan")
        found[f"crossing_{name}_hu_percent"] = share
    return found


def outside(hu: HU) -> Mask:
    """(Z, Y, X) mask of the air around the patient: what is below -500 HU up to the border.

    Lungs that reach the border of a slice count as outside.

    Example:
        >>> slice_ = np.full((7, 7), -1000)
        >>> slice_[1:6, 1:6] = 40
        >>> slice_[3, 3] = -800
        >>> int(outside(slice_[None]).sum())
        24
    """
    from scipy import ndimage

    found = np.zeros(hu.shape, bool)
    for z, slice_ in enumerate(hu):
        regions, _ = ndimage.label(slice_ < _OPEN_HU)
        border = np.concatenate([regions[[0, -1]].ravel(), regions[:, [0, -1]].ravel()])
        found[z] = np.isin(regions, border[border > 0])
    return found


def _mean(values: npt.NDArray[Any]) -> float:
    return float(np.mean(values, dtype=np.float64)) if values.size else float("nan")
