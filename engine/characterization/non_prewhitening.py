"""Non-prewhitening observers: detectability from task transfer function and noise power spectrum.

They see a disc through the linear system that both describe (AAPM TG-233, 2019).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from engine.characterization.task_transfer import TaskTransfer
from engine.scoring.noise_power import NoisePower
from volumes.phantoms.rods import disc_spectrum

_VIEWING_MM = 500.0
_PEAK_PER_DEGREE = 4.0
_EYE_EXPONENT = 1.3

Array = npt.NDArray[np.float64]


def eye_filter(frequency_per_mm: Array) -> Array:
    """The response of the eye, 1 at its peak of 4 cycles a degree.

    f^1.3 exp(-c f^2) in cycles a degree (Eckstein et al., 2003; LCD-CT rounds c to 0.04), for an
    image that is shown in life size at a distance of 500 mm.
    """
    degree_mm = _VIEWING_MM * math.radians(1)
    f = np.asarray(frequency_per_mm, np.float64) * degree_mm / _PEAK_PER_DEGREE
    return np.asarray(f**_EYE_EXPONENT * np.exp(_EYE_EXPONENT / 2 * (1 - f**2)))


def non_prewhitening(
    noise: NoisePower, transfer: TaskTransfer, diameter_mm: float, contrast_hu: float,
    *, eye: bool = False,
) -> float:  # fmt: skip
    """Detectability d' of the non-prewhitening observer for a disc, with or without eye filter.

    d'^2 = [integral (W T E)^2]^2 / integral (W T)^2 NPS E^4, with both integrals over 2 pi f df: W
    is the spectrum of the disc, T the task transfer function, E the eye filter or 1.

    Args:
        noise: in HU^2 mm^2.
        transfer: of the disc's contrast.
        diameter_mm: of the disc.
        contrast_hu: of the disc.
        eye: whether the observer has an eye filter.
    """
    measured, power = noise.radial
    frequency = np.linspace(0, measured[-1], 2000)
    power = np.interp(frequency, measured, power)  # constant below the first ring
    weight = eye_filter(frequency) ** 2 if eye else np.ones_like(frequency)
    square = (disc_spectrum(frequency, diameter_mm, contrast_hu) * transfer.at(frequency)) ** 2
    area = 2 * np.pi * frequency
    signal = float(np.trapezoid(square * weight * area, frequency))
    variance = float(np.trapezoid(square * power * weight**2 * area, frequency))
    return signal / math.sqrt(variance) if variance > 0 else float("nan")
