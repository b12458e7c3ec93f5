"""Lesions: discs of low contrast in the soft tissue of a real slice.

What a denoiser does in a uniform phantom is not what it does in a patient. The line integrals of a
lesion are added to those of the slice, so that its edge is not limited by the pixels of the slice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.phantoms.rods import Rod

# Diameter and contrast of metastases in the liver, from easy to hard at a full dose.
LESIONS = ((6.0, -30.0), (8.0, -25.0), (10.0, -20.0), (14.0, -15.0))
_TISSUE_HU = (20.0, 160.0)  # soft tissue, with and without contrast agent
_APART_MM = 25.0
_ROOM_MM = 15.0  # half the side of an observer's region


def lesion_places(hu: npt.NDArray[Any], pixel_mm: float) -> tuple[Rod, ...]:
    """Where lesions fit into a slice: its most homogeneous soft tissue, one place a lesion.

    Args:
        hu: (N, N) square slice.
        pixel_mm: width of its pixels.

    Returns:
        Rods whose `hu` is the contrast to the tissue; fewer than `LESIONS` if there is no room.
    """
    from scipy import ndimage

    slice_, size = np.asarray(hu, np.float64), len(hu)
    wide = round(2 * _ROOM_MM / pixel_mm)
    mean = ndimage.uniform_filter(slice_, wide)
    spread = ndimage.uniform_filter(slice_**2, wide) - mean**2
    low = ndimage.minimum_filter(ndimage.gaussian_filter(slice_, 2.0 / pixel_mm), wide)
    fits = (mean > _TISSUE_HU[0]) & (mean < _TISSUE_HU[1]) & (low > -60.0)
    middle = (size - 1) / 2
    at = (np.arange(size) - middle) * pixel_mm
    fits &= np.hypot(at[:, None], at) < size / 2 * pixel_mm - 2 * _ROOM_MM
    found: list[Rod] = []
    for diameter, contrast in LESIONS:
        if not fits.any():
            break
        y, x = np.unravel_index(np.argmin(np.where(fits, spread, np.inf)), fits.shape)
        name = f"lesion {diameter:g} mm, {contrast:g} HU"
        found.append(Rod(name, float(at[x]), float(at[y]), diameter, contrast))
        fits &= found[-1].distance_mm(size, pixel_mm) > _APART_MM
    return tuple(found)
