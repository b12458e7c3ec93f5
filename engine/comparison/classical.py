"""Classical methods: denoising without training, with one interface.

Parameters are multiples of the noise's standard deviation, so that they have the same meaning at
every noise level.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np

from engine.comparison.spade import Spade
from engine.errors import BadUsage
from volumes.volume import SpacingMm, Unit

_TV_WEIGHTS = (0.35, 0.5, 0.65, 0.8, 1.0, 1.2, 1.5)  # the last for coloured noise
_TV_PRECISION = 1e-5  # the default of scikit-image stops early and loses up to 1 dB of PSNR
_BM4D_BLOCK = 5  # side of the blocks of its second stage

# Arguments of `estimate`: noisy, sigma, spacing_mm, prior.
Given = tuple[Unit, float, SpacingMm, Unit | None]


class Method(Protocol):
    """A method that estimates the clean volume from the noisy one, without training.

    Attributes:
        name: in tables and on the command line.
        sees_prior: whether it uses a prior.
    """

    name: ClassVar[str]
    sees_prior: ClassVar[bool]

    @property
    def slicewise(self) -> bool:
        """Whether the estimate of a slice depends on that slice alone."""
        ...

    def candidates(self) -> list[Self]:
        """The settings among which tuning chooses."""
        ...

    def estimate(
        self, noisy: Unit, sigma: float, spacing_mm: SpacingMm, prior: Unit | None
    ) -> Unit:
        """Estimates a volume.

        Args:
            noisy: (Z, Y, X) in window units.
            sigma: standard deviation of its noise, in window units.
            spacing_mm: distance of neighbouring voxels along (Z, Y, X).
            prior: (Z, Y, X) in window units, for methods that use one.

        Returns:
            (Z, Y, X) float32 in window units, not clipped.
        """
        ...


M = TypeVar("M", bound=Method)


def tuned(method: M, pairs: Sequence[tuple[Unit, Given]]) -> M:
    """The candidate with the least mean squared error, clipped to the window as in the scores.

    Args:
        method: its candidates are tried; among equals the first wins.
        pairs: of each validation case, the clean image, (Z, Y, X) in window units, and the
            arguments of `estimate`. Every case has the same weight.

    Raises:
        ValueError: if there are several candidates but no case.
    """
    candidates = method.candidates()
    if len(candidates) == 1:
        return candidates[0]  # saves hours with some methods
    if not pairs:
        raise ValueError(f"{method.name} cannot be tuned without a validation case")

    def error(candidate: M) -> float:
        return float(np.mean([_error(clean, candidate.estimate(*given)) for clean, given in pairs]))

    return min(candidates, key=error)


def _error(clean: Unit, estimate: Unit) -> float:
    difference = np.clip(estimate, 0, 1) - np.clip(clean, 0, 1)
    return float(np.mean(np.square(difference, dtype=np.float64)))


@dataclass(frozen=True)
class Noisy:
    """The noisy volume itself: the baseline."""

    name: ClassVar[str] = "noisy"
    sees_prior: ClassVar[bool] = False
    slicewise: ClassVar[bool] = True

    def candidates(self) -> list[Self]:
        """Itself."""
        return [self]

    def estimate(
        self, noisy: Unit, sigma: float, spacing_mm: SpacingMm, prior: Unit | None
    ) -> Unit:
        """The noisy volume."""
        return noisy


@dataclass(frozen=True)
class Prior:
    """The prior itself, as a baseline."""

    name: ClassVar[str] = "prior"
    sees_prior: ClassVar[bool] = True
    slicewise: ClassVar[bool] = True

    def candidates(self) -> list[Self]:
        """Itself."""
        return [self]

    def estimate(
        self, noisy: Unit, sigma: float, spacing_mm: SpacingMm, prior: Unit | None
    ) -> Unit:
        """The prior.

        Raises:
            BadUsage: if there is none.
        """
        if prior is None:
            raise BadUsage(self.name, "needs a prior", "Choose a recipe that has one")
        return prior


@dataclass(frozen=True)
class TotalVariation:
    """Total variation (Rudin, Osher and Fatemi, Physica D 60, 1992), isotropic.

    It minimises weight sigma ||grad u||_1 + 1/2 ||u - noisy||^2 by Chambolle's projection (J.
    Math. Imaging Vis. 20, 2004), as scikit-image implements it.

    Attributes:
        weight: of the gradient, as a multiple of sigma.
        volumetric: whether the gradient is taken along Z, Y and X, or within slices.
    """

    name: ClassVar[str] = "tv"
    sees_prior: ClassVar[bool] = False
    weight: float = 0.8
    volumetric: bool = False

    @property
    def slicewise(self) -> bool:
        """Whether the estimate of a slice depends on that slice alone."""
        return not self.volumetric

    def candidates(self) -> list[Self]:
        """Weights; about 0.8 to 1 is best for slices, 0.5 to 0.65 for volumes."""
        return [replace(self, weight=weight) for weight in _TV_WEIGHTS]

    def estimate(
        self, noisy: Unit, sigma: float, spacing_mm: SpacingMm, prior: Unit | None
    ) -> Unit:
        """The estimate, (Z, Y, X) in window units."""
        from skimage.restoration import denoise_tv_chambolle

        if sigma == 0:
            return noisy
        images = [noisy] if self.volumetric else noisy[:, None]
        found = [
            denoise_tv_chambolle(image, weight=self.weight * sigma, eps=_TV_PRECISION)
            for image in images
        ]
        return np.concatenate(found).astype(np.float32)


@dataclass(frozen=True)
class NonLocalMeans:
    """Non-local means of each slice (Buades, Coll and Morel, CVPR 2005).

    The fast variant (Darbon et al., ISBI 2008) of scikit-image, which subtracts the noise variance
    from patch distances.

    Attributes:
        h: decay of the weights with the distance of patches, as a multiple of sigma.
        patch: side of a patch in pixels.
        distance: search radius for patches, in pixels.
    """

    name: ClassVar[str] = "nlm"
    sees_prior: ClassVar[bool] = False
    slicewise: ClassVar[bool] = True
    h: float = 0.6
    patch: int = 7
    distance: int = 11

    def candidates(self) -> list[Self]:
        """Decays, for patches of 5 with a small radius (low noise) and of 7 with a larger one."""
        return [
            replace(self, patch=patch, distance=distance, h=h)
            for patch, distance in ((5, 6), (7, 11))
            for h in (0.4, 0.5, 0.6, 0.8, 1.0, 1.3)
        ]

    def estimate(
        self, noisy: Unit, sigma: float, spacing_mm: SpacingMm, prior: Unit | None
    ) -> Unit:
        """The estimate, (Z, Y, X) in window units."""
        from skimage.restoration import denoise_nl_means

        if sigma == 0:
            return noisy
        found = [
            denoise_nl_means(
                slice_, self.patch, self.distance, self.h * sigma, fast_mode=True, sigma=sigma
            )
            for slice_ in noisy
        ]
        return np.stack(found).astype(np.float32)


@dataclass(frozen=True)
class _BlockMatching(ABC):
    """Block matching, by packages of Tampere University.

    They are optional dependencies, because their licence allows non-commercial use only.

    Attributes:
        strength: standard deviation given to the method, as a multiple of sigma.
    """

    strength: float = 1.0

    name: ClassVar[str]
    strengths: ClassVar[tuple[float, ...]]  # from 1; slightly more is better for CT
    sees_prior: ClassVar[bool] = False

    def candidates(self) -> list[Self]:
        """The strengths that are tried."""
        return [replace(self, strength=strength) for strength in self.strengths]

    def estimate(
        self, noisy: Unit, sigma: float, spacing_mm: SpacingMm, prior: Unit | None
    ) -> Unit:
        """The estimate, (Z, Y, X) in window units.

        Raises:
            BadUsage: if the package is not installed, or the volume is smaller than a block.
        """
        if sigma == 0:
            return noisy
        found = self._filtered(noisy, self.strength * sigma)
        return np.reshape(found, noisy.shape).astype(np.float32)

    @abstractmethod
    def _filtered(self, noisy: Unit, sigma: float) -> Any:
        """The filtered volume, of as many voxels."""


@dataclass(frozen=True)
class BM3D(_BlockMatching):
    """Block matching and 3D filtering of each slice (Dabov et al., IEEE TIP 16, 2007)."""

    name: ClassVar[str] = "bm3d"
    # Coloured noise needs more than its standard deviation.
    strengths: ClassVar[tuple[float, ...]] = (1.0, 1.1, 1.2, 1.5, 2.0, 2.5)
    slicewise: ClassVar[bool] = True

    def _filtered(self, noisy: Unit, sigma: float) -> Any:
        bm3d = _optional(self.name).bm3d
        return np.stack([bm3d(slice_, sigma) for slice_ in noisy])


@dataclass(frozen=True)
class BM4D(_BlockMatching):
    """Block matching and 4D filtering of the volume (Maggioni et al., IEEE TIP 22, 2013)."""

    name: ClassVar[str] = "bm4d"
    strengths: ClassVar[tuple[float, ...]] = (1.0, 1.1)  # each takes minutes a volume
    slicewise: ClassVar[bool] = False

    def _filtered(self, noisy: Unit, sigma: float) -> Any:
        if min(noisy.shape) < _BM4D_BLOCK:
            cause = f"needs {_BM4D_BLOCK} voxels along every axis, this volume has {noisy.shape}"
            raise BadUsage(self.name, cause, "Take more slices, or use bm3d")
        return _optional(self.name).bm4d(noisy, sigma)


def _optional(package: str) -> Any:
    """An optional package, if it is installed."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise BadUsage(
            package,
            "needs a package that is not installed, free for non-commercial use only",
            "Install it with: pip install 'respr-engine[bm3d]'",
        ) from error


METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (Noisy, Prior, TotalVariation, NonLocalMeans, BM3D, BM4D, Spade)
}
