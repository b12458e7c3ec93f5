"""Lesions: discs of low contrast in the soft tissue of a real slice.

What a denoiser does in a uniform phantom is not what it does in a patient. The line integrals of a
lesion are added to those of the slice, so that its edge is not limited by the pixels of the slice.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.phantoms.rods import REGION_OF_DIAMETER, Rod

# Diameter and contrast of metastases in the liver, from easy to hard at a full dose.
LESIONS = ((6.0, -30.0), (8.0, -25.0), (10.0, -20.0), (14.0, -15.0))
_TISSUE_HU = (20.0, 160.0)  # soft tissue, with and without contrast agent
# Side of an observer's region. A lesion further away than that, in any direction, is not in it.
_REGION_MM = REGION_OF_DIAMETER * max(diameter for diameter, _ in LESIONS)


def lesion_places(hu: npt.NDArray[Any], pixel_mm: float) -> tuple[Rod, ...]:
    """Where lesions fit into a slice: its most homogeneous soft tissue, one place a lesion.

    The region of an observer about each is soft tissue, and holds no other lesion.

    Args:
        hu: (N, N) square slice.
        pixel_mm: width of its pixels.

    Returns:
        Rods whose `hu` is the contrast to the tissue; fewer than `LESIONS` if there is no room.
    """
    from scipy import ndimage

    slice_, size = np.asarray(hu, np.float64), len(hu)
    wide = round(_REGION_MM / pixel_mm)
    mean = ndimage.uniform_filter(slice_, wide)
    spread = ndimage.uniform_filter(slice_**2, wide) - mean**2
    low = ndimage.minimum_filter(ndimage.gaussian_filter(slice_, 2.0 / pixel_mm), wide)
    fits = (mean > _TISSUE_HU[0]) & (mean < _TISSUE_HU[1]) & (low > -60.0)
    middle = (size - 1) / 2
    at = (np.arange(size) - middle) * pixel_mm
    corner = _REGION_MM / math.sqrt(2)  # from the lesion: regions lie within the scanned circle
    fits &= np.hypot(at[:, None], at) < size / 2 * pixel_mm - corner
    found: list[Rod] = []
    for diameter, contrast in LESIONS:
        if not fits.any():
            break
        y, x = np.unravel_index(np.argmin(np.where(fits, spread, np.inf)), fits.shape)
        name = f"lesion {diameter:g} mm, {contrast:g} HU"
        found.append(Rod(name, float(at[x]), float(at[y]), diameter, contrast))
        fits &= found[-1].distance_mm(size, pixel_mm) > _REGION_MM
    return tuple(found)
