"""Applied networks: trained models as methods, which give what `engine denoise` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from engine.comparison.methods import ComparedMethod
from engine.denoising.denoise import DenoiseSettings
from engine.denoising.finishing import finished
from engine.inference.predictor import Predictor, photons_told
from engine.inference.tiling import blocks_of, plan
from engine.runs.trained_model import Model
from volumes.sampling.noise import Noise
from volumes.volume import SpacingMm, Unit


class AppliedNetwork:
    """A trained model as a method.

    Args:
        model: of a run.
        settings: poses, strength, and the photons of the scans for a dose-aware network.
        keeps_bone: whether bone and metal keep their values, as in the files of `engine denoise`;
            else the network's own estimate is scored, as in Abascal et al. (2020).
    """

    slicewise: ClassVar[bool] = False  # its tiles are planned for the whole volume

    def __init__(
        self, model: Model, settings: DenoiseSettings | None = None, *, keeps_bone: bool = True
    ) -> None:
        self._model, self._settings = model, settings or DenoiseSettings()
        self._keeps_bone = keeps_bone
        self._predictor = Predictor.of(model, self._settings.photons, poses=self._settings.poses)

    @property
    def sees_prior(self) -> bool:
        """Whether the network has a prior as its second input."""
        return self._model.recipe.network.sees_prior

    def __repr__(self) -> str:
        """The setting of the method in the report."""
        return setting(self._model, self._settings)

    def estimate(
        self, noisy: Unit, sigma: float, spacing_mm: SpacingMm, prior: Unit | None
    ) -> Unit:
        """The estimate that is scored, (Z, Y, X) in window units."""
        if not self._keeps_bone:
            estimate = self.raw(noisy, prior)
            if self._settings.strength == 1:
                return estimate
            return noisy + np.float32(self._settings.strength) * (estimate - noisy)
        window = self._model.recipe.window
        return window.unit(self.denoised_hu(window.hu(noisy), noisy, spacing_mm, prior))

    def denoised_hu(
        self, hu: Unit, noisy: Unit, spacing_mm: SpacingMm, prior: Unit | None, *,
        apart: bool = False,
    ) -> Unit:  # fmt: skip
        """The HU that `engine denoise` writes, before they are rounded.

        Args:
            hu: (Z, Y, X) of the scan.
            noisy: the same in window units.
            spacing_mm: distance of neighbouring voxels along (Z, Y, X).
            prior: (Z, Y, X) second input in window units; None for a network without one.
            apart: whether bone is judged slice by slice. Realisations of a phantom must not depend
                on each other.
        """
        window, seen = self._model.recipe.window, self._model.recipe.seen(noisy)
        estimate, strength = self.raw(seen, prior), self._settings.strength
        depth = len(hu)
        parts = [slice(z, z + 1) for z in range(depth)] if apart else [slice(depth)]
        return np.concatenate(
            [finished(hu[z], seen[z], estimate[z], window, spacing_mm, strength) for z in parts]
        )

    def raw(self, seen: Unit, prior: Unit | None) -> Unit:
        """The network's own estimate of what it is given, (Z, Y, X) in window units."""
        network = self._model.recipe.network
        second = blocks_of(prior) if network.sees_prior and prior is not None else None
        z, y, x = seen.shape
        whole: Unit = self._predictor.volume(plan((z, y, x), network), blocks_of(seen), second)
        return whole


def setting(model: Model, settings: DenoiseSettings) -> str:
    """How a model is applied, for reports."""
    words = [f"{model.recipe.network} at step {model.step}"]
    if settings.poses:
        words.append("mean of the poses of slices")
    if settings.strength != 1:
        words.append(f"strength {settings.strength:g}")
    return ", ".join(words)


@dataclass
class AppliedNetworks:
    """The networks of a comparison. Each is loaded once, a dose-aware network once a dose.

    Attributes:
        methods: of the comparison; classical ones are skipped.
        keep_bone: see `AppliedNetwork`.
    """

    methods: Sequence[ComparedMethod]
    keep_bone: bool = True
    _loaded: dict[tuple[Path, DenoiseSettings], AppliedNetwork] = field(default_factory=dict)

    def at(self, noise: Noise) -> dict[str, AppliedNetwork]:
        """The networks by label, for a kind of noise and its dose."""
        return {
            each.label: self._network(each.model, each.settings, noise)
            for each in self.methods
            if each.model
        }

    def _network(self, model: Model, settings: DenoiseSettings, noise: Noise) -> AppliedNetwork:
        photons = photons_told(model.recipe.network, noise)
        key = model.path, replace(settings, photons=photons)
        if key not in self._loaded:
            self._loaded[key] = AppliedNetwork(model, key[1], keeps_bone=self.keep_bone)
        return self._loaded[key]
