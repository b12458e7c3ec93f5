"""The ramp filter of filtered back-projection."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.tomography.geometry import Geometry

Array = npt.NDArray[np.float32]

WINDOWS = ("ram-lak", "shepp-logan", "cosine", "hann")


@lru_cache(maxsize=16)
def filters(geometry: Geometry, window: str) -> tuple[Array, Array]:
    """The weights of the bins before filtering, and the frequency response of the filter.

    The response is the Fourier transform of the band-limited ramp, sampled in space (Ramachandran
    and Lakshminarayanan, PNAS 68, 1971). A ramp sampled in frequency would lose the mean. The
    window reduces high frequencies, and with them noise and sharpness. "ram-lak" has no window.

    Args:
        geometry: of the rays.
        window: one of WINDOWS.

    Returns:
        (bins,) weights, and (L / 2 + 1,) response for a real transform of length L. L is large
        enough to avoid circular wrap-around.

    Raises:
        ValueError: if the window is not one of WINDOWS.
    """
    length = 2 ** math.ceil(math.log2(max(2 * geometry.bins, 2)))
    place = np.minimum(np.arange(length), length - np.arange(length))
    kernel = np.zeros(length)
    kernel[0] = 1 / 4
    odd = place % 2 == 1
    kernel[odd] = -1 / (np.pi * place[odd]) ** 2
    response: npt.NDArray[Any] = np.fft.rfft(kernel).real
    response *= _window(window, np.fft.rfftfreq(length))
    # A full turn measures every line twice.
    response *= (math.pi / geometry.arc) / geometry.bin_width
    oblique = 1 / np.hypot(1, geometry.divergence * geometry.shadow)
    return oblique.astype(np.float32), response.astype(np.float32)


def _window(name: str, frequency: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The window at frequencies in cycles per bin; the highest is 1/2."""
    if name == "ram-lak":
        return np.ones_like(frequency)
    if name == "shepp-logan":
        return np.asarray(np.sinc(frequency))
    if name == "cosine":
        return np.cos(np.pi * frequency)
    if name == "hann":
        return np.cos(np.pi * frequency) ** 2
    raise ValueError(f"filter must be one of {', '.join(WINDOWS)}, not {name!r}")
