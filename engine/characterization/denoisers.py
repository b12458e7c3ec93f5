"""Denoisers: methods and networks, applied to a stack of realisations in HU.

A 2D method denoises each slice by itself. For a 3D network, or a method with a prior, the stack is
a scan: all phantoms are rods along Z, so a stack of realisations is a phantom as long as the stack,
whose slices have independent noise. Neighbouring slices of its estimate share noise, see
`engine.characterization.stack_blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from engine.characterization.ensembles import Ensemble
from engine.comparison.applied_network import AppliedNetwork, setting
from engine.comparison.classical import METHODS
from engine.comparison.methods import RECONSTRUCTION, ComparedMethod
from engine.errors import NumericalFailure
from engine.inference.prior_image import prior_image
from engine.inference.tiling import blocks_of
from engine.runs.trained_model import Model
from volumes import NeighbourMean, Window
from volumes.boxes import Box
from volumes.tomography.photon_noise import dose_text
from volumes.volume import Unit

_CLASSICAL_REACH = 4  # of methods with a prior, or of volumes: as the prior; it is measured
MOST_SLICES = 66  # in which a reach is measured, and the one that replaces another
_SHARED = 0.05  # of the largest change: what changes less correlates estimates too little to count
_SLICE_MM = 1.0  # distance of slices of a phantom, for priors whose weights fall per mm


class Denoiser(Protocol):
    """What is characterised: it turns noisy stacks into denoised ones.

    Attributes:
        label: in tables.
        setting: in words.
        reach: number of slices on each side that the estimate of a slice may depend on; 0 only if
            it depends on its own slice alone. `measured_reach` tells how far it does.
    """

    label: str
    setting: str
    reach: int

    def denoise(self, stack_hu: Unit, sigma_hu: float, pixel_mm: float, photons: float) -> Unit:
        """The estimate of a stack.

        Args:
            stack_hu: (N, Y, X) realisations.
            sigma_hu: standard deviation of their noise, for methods that must know it.
            pixel_mm: width of their square pixels.
            photons: per ray, for networks that must know the dose.

        Returns:
            (N, Y, X) HU.
        """
        ...


def denoised(ensemble: Ensemble, denoiser: Denoiser) -> Ensemble:
    """The estimate of an ensemble.

    Raises:
        NumericalFailure: if it is not finite.
    """
    # A copy, so that a method cannot change the input of the next one.
    estimate = denoiser.denoise(
        ensemble.stack_hu.copy(), ensemble.sigma_hu, ensemble.module.pixel_mm, ensemble.photons
    )
    if not np.isfinite(estimate).all():
        cause = f"gives numbers that are not finite at {dose_text(ensemble.photons)} photons"
        raise NumericalFailure(denoiser.label, cause, "Leave it out")
    return replace(ensemble, stack_hu=estimate)


def measured_reach(ensemble: Ensemble, denoiser: Denoiser) -> int:
    """Number of slices on each side that the estimate of a slice depends on.

    The middle slice of a stack is replaced by another realisation. The reach is the distance of the
    farthest slice whose estimate changes by more than 5 % (root mean square) of the largest change.
    That of a 3D network is mostly far below the receptive radius, which is only a bound.

    Args:
        ensemble: of a uniform module; the last of its realisations replaces another one.
        denoiser: not applied if its `reach` is 0.

    Raises:
        NumericalFailure: if an estimate is not finite.
    """
    if not denoiser.reach:
        return 0
    stack = ensemble.stack_hu[:-1]
    middle, other = len(stack) // 2, stack.copy()
    other[middle] = ensemble.stack_hu[-1]
    one, two = (denoised(replace(ensemble, stack_hu=s), denoiser).stack_hu for s in (stack, other))
    change = np.sqrt(np.mean(np.square(two - one)[:, ensemble.module.body], axis=1))
    changed = np.flatnonzero(change > _SHARED * change.max())
    return int(np.abs(changed - middle).max(initial=0))


@dataclass(frozen=True)
class Untouched:
    """The reconstruction itself, which all others are compared with."""

    label: str = RECONSTRUCTION
    setting: str = "untouched"
    reach: int = 0

    def denoise(self, stack_hu: Unit, sigma_hu: float, pixel_mm: float, photons: float) -> Unit:
        """The stack."""
        return stack_hu


class ClassicalDenoiser:
    """A classical method with its default parameters, in the window of HU.

    Args:
        compared: a method without a model.
        window: HU <-> window units.
    """

    def __init__(self, compared: ComparedMethod, window: Window) -> None:
        self.label, self._window = compared.label, window
        self._method = METHODS[compared.classical]()
        self._prior = compared.prior or NeighbourMean()
        self.setting = repr(self._method)
        alone = self._method.slicewise and not self._method.sees_prior
        self.reach = 0 if alone else _CLASSICAL_REACH

    def denoise(self, stack_hu: Unit, sigma_hu: float, pixel_mm: float, photons: float) -> Unit:
        """The estimate; see `Denoiser`."""
        noisy, sigma = self._window.unit(stack_hu), sigma_hu / self._window.width_hu
        second = _prior(self._prior, noisy, sigma) if self._method.sees_prior else None
        spacing = (_SLICE_MM, pixel_mm, pixel_mm)
        return self._window.hu(self._method.estimate(noisy, sigma, spacing, second))


class NetworkDenoiser:
    """A network as `engine denoise` applies it: what lies above its window keeps its values.

    Args:
        compared: a method with a model.
        model: the same.
    """

    def __init__(self, compared: ComparedMethod, model: Model) -> None:
        self.label, self._model, self._recipe = compared.label, model, model.recipe
        self._prior, self._settings = compared.prior, compared.settings
        self.setting = setting(model, compared.settings)
        self.reach = model.recipe.network.radius[0]
        self.reach += 0 if self._prior is None else self._prior.halo
        self._loaded: dict[float | None, AppliedNetwork] = {}

    def denoise(self, stack_hu: Unit, sigma_hu: float, pixel_mm: float, photons: float) -> Unit:
        """The estimate; see `Denoiser`."""
        recipe, spacing = self._recipe, (_SLICE_MM, pixel_mm, pixel_mm)
        noisy = recipe.window.unit(stack_hu)
        sigma = sigma_hu / recipe.window.width_hu
        second = None
        if recipe.network.sees_prior and self._prior is not None:
            second = _prior(self._prior, recipe.seen(noisy), sigma)
        network = self._network(photons if recipe.network.sees_dose else None)
        return network.denoised_hu(stack_hu, noisy, spacing, second, apart=True)

    def _network(self, photons: float | None) -> AppliedNetwork:
        if photons not in self._loaded:
            settings = replace(self._settings, photons=photons)
            self._loaded[photons] = AppliedNetwork(self._model, settings)
        return self._loaded[photons]


def _prior(prior: NeighbourMean, noisy: Unit, sigma: float) -> Unit:
    z, y, x = noisy.shape
    blocks = prior_image(prior, blocks_of(noisy), (z, y, x), sigma, _SLICE_MM)
    return blocks(Box((0, 0, 0), (z, y, x)))


def denoisers(methods: Sequence[ComparedMethod]) -> list[Denoiser]:
    """The reconstruction, then the methods, each ready to denoise."""
    behind = [model for method in methods for model in method.behind()]
    window = behind[0].recipe.window if behind else Window()
    found: list[Any] = [Untouched()]
    for method in methods:
        if method.model:
            found.append(NetworkDenoiser(method, method.model))
        elif method.classical != "noisy":
            found.append(ClassicalDenoiser(method, window))
    return found
