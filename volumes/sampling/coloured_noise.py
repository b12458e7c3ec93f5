"""Coloured noise: correlated within slices, like the noise of reconstruction kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from volumes.sampling.additive_noise import AdditiveNoise, Drawn, percent
from volumes.sampling.noise_spectrum import (
    Spectrum,
    device_noise,
    device_strength,
    slice_noise,
    slice_strength,
)
from volumes.sampling.ranges import Range, between, ends, middle
from volumes.volume import Unit


@dataclass(frozen=True)
class Coloured(AdditiveNoise):
    """Gaussian noise with the amplitude spectrum f^exponent exp(-(f / cutoff)^2).

    Each field is a number, or a range (low, high) from which each example draws its value.
    `noise_spectrum.Spectrum` has the formula. Validation and `degrade` use the middle of each
    range, and grain that is long along X, because patients are wider than thick.

    Attributes:
        exponent: of the rise with frequency, drawn uniformly.
        cutoff: in cycles a pixel, drawn log-uniformly.
        stretch: ratio of length to width of the grain, drawn log-uniformly; its direction is drawn
            uniformly.
        thickness: how much stronger noise is where the body is thick, drawn uniformly.

    Example:
        >>> Coloured(sigma=0.05, exponent=0.6, cutoff=(0.1, 0.4)).typical_spectrum.cutoff
        0.2
    """

    exponent: Range = (0.2, 1.0)
    cutoff: Range = (0.1, 0.6)
    stretch: Range = 1.0
    thickness: Range = 0.0

    name: ClassVar[str] = "coloured"

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, least in (("exponent", 0.0), ("cutoff", 0.01), ("stretch", 1.0),
                             ("thickness", 0.0)):  # fmt: skip
            value = getattr(self, field)
            low, high = ends(value)
            if not least <= low <= high < math.inf:
                raise ValueError(
                    f"noise.{field} must be at least {least:g}, or a range low,high, not {value}"
                )

    @classmethod
    def parse(cls, text: str) -> Coloured:
        """Coloured noise from `SIGMA` (with the typical spectrum) or `SIGMA/EXPONENT/CUTOFF`.

        Raises:
            ValueError: if the text is neither.

        Example:
            >>> Coloured.parse("0.05/0.6/0.25").cutoff
            0.25
        """
        numbers = [float(part) for part in text.split("/")]
        if len(numbers) == 1:
            (noise,) = cls().at(numbers[0]).values()
            return noise
        if len(numbers) == 3:
            return cls(*numbers)
        raise ValueError("takes SIGMA or SIGMA/EXPONENT/CUTOFF")

    @property
    def colour(self) -> str:
        """See `AdditiveNoise.colour`."""
        typical = self.typical_spectrum
        fall = f"exp(-(f / {typical.cutoff:.3g})^2)"
        return f"coloured, amplitude f^{typical.exponent:.3g} {fall} of f cycles a pixel,"

    @property
    def typical_spectrum(self) -> Spectrum:
        """The spectrum in the middle of all ranges."""
        return Spectrum(
            middle(self.exponent),
            middle(self.cutoff, log=True),
            middle(self.stretch, log=True),
            thickness=middle(self.thickness),
        )

    def at(self, level: float) -> Mapping[str, Coloured]:
        """The typical spectrum with one sigma; see `AdditiveNoise.at`."""
        typical = self.typical_spectrum
        noise = Coloured(level, typical.exponent, typical.cutoff, typical.stretch,
                         typical.thickness)  # fmt: skip
        return {f"{self.name} {percent(level)}": noise}

    def about(self) -> dict[str, Any]:
        """See `AdditiveNoise.about`."""
        return super().about() | asdict(self.typical_spectrum)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Sigma and spectrum of one training example."""
        sigma = between(self.range, rng, log=self.spread == "log")
        spectrum = Spectrum(
            between(self.exponent, rng),
            between(self.cutoff, rng, log=True),
            between(self.stretch, rng, log=True),
            angle=float(rng.uniform(0, math.pi)),
            thickness=between(self.thickness, rng),
        )
        return Drawn(sigma, spectrum.vector())

    def add(self, clean: Any, sigma: Any, spectrum: Any, keys: Any) -> Any:
        """Adds noise on the device; see `AdditiveNoise.add`."""
        import tensorflow as tf

        noisy = []
        for b in range(clean.shape[0]):
            noise = device_noise(tuple(clean.shape[1:]), spectrum[b], keys[b])
            if self.thickness != 0.0:
                noise = noise * device_strength(clean[b], spectrum[b, 5])
            noisy.append(clean[b] + sigma[b] * noise)
        return tf.stack(noisy)

    def slice_noise(self, clean: Unit, rng: np.random.Generator) -> Unit:
        """(Y, X) noise of the typical spectrum; see `AdditiveNoise.slice_noise`."""
        spectrum = self.typical_spectrum
        noise = slice_noise((clean.shape[0], clean.shape[1]), spectrum, rng)
        return np.asarray(noise * slice_strength(clean, spectrum.thickness), np.float32)
