"""Comparison: scores every method on the same cases with the same noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from engine.comparison.classical import METHODS, Given, tuned
from engine.comparison.methods import ComparedMethod, Networks
from engine.comparison.noise_levels import Level
from engine.inference.prior_image import prior_image
from engine.inference.tiling import blocks_of
from engine.report.results import Picture, Row
from engine.scoring.case_images import NOISE_SEED, CaseImages, case_images
from engine.scoring.metrics import attenuation_scores, scores, soft_tissue_rmse, window_psnr
from engine.scoring.residual import autocorrelation, edge_correlation
from volumes import NeighbourMean, Window
from volumes.boxes import Box, read_box
from volumes.volume import Unit, Volume

_TUNING = (8, 256, 256)  # block of each validation case for tuning classical methods
_REFERENCE = (32, 256, 256)

Tick = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """The methods, cases and noise levels of a comparison.

    Attributes:
        methods: to compare.
        cases: volumes to score.
        tuning: volumes on which classical methods are tuned; if empty, they keep their defaults.
        levels: of noise.
        window: of every score.
        prior: of classical methods without a named prior.
        protocol: "volumes", or "reference": the first slice of a central crop.
        slices: number of scored slices about the middle of each case; None for all.
        recorded: volumes with recorded noise, by label of the level and name of the case.
        noise_seed: of simulated noise, beside case and slice.
    """

    methods: Sequence[ComparedMethod]
    cases: Sequence[Volume]
    tuning: Sequence[Volume]
    levels: Sequence[Level]
    window: Window
    prior: NeighbourMean
    protocol: str = "volumes"
    slices: int | None = None
    recorded: Mapping[str, Mapping[str, Volume]] = field(default_factory=dict)
    noise_seed: int = NOISE_SEED

    def scored(self, depth: int) -> slice:
        """The slices to score in an image of a given depth."""
        if self.protocol == "reference":
            return slice(0, 1)
        length = min(self.slices or depth, depth)
        first = (depth - length) // 2
        return slice(first, first + length)


class ComparedCase:
    """One case at one noise level: its clean image, its noisy image, and its priors.

    Attributes:
        images: see `case_images`.
        clean, noisy: (Z, Y, X) in window units.
        sigma: standard deviation of the noise in window units, an input of the methods: that of the
            level; for recorded and scanner noise, that of noisy - clean within the window.
        spacing_mm: of the volume.
    """

    def __init__(self, comparison: Comparison, volume: Volume, level: Level) -> None:
        volume = comparison.recorded.get(level.label, {}).get(volume.case, volume)
        reference = comparison.protocol == "reference"
        images = case_images(
            volume, level.noise, comparison.window, comparison.noise_seed, clipped_first=reference
        )
        if reference:
            images = images.block(_central(images.clean.shape, _REFERENCE))
        self.images, self.spacing_mm = images, volume.spacing_mm
        self.clean, self.noisy = images.clean, images.noisy
        self.sigma = level.noise.typical
        if not level.noise.additive:
            within = (self.clean > 0) & (self.clean < 1)
            self.sigma = float(np.std((self.noisy - self.clean)[within])) if within.any() else 0.0
        self._priors: dict[NeighbourMean, Unit] = {}

    def prior(self, prior: NeighbourMean) -> Unit:
        """(Z, Y, X) image of a prior in window units, cached."""
        if prior not in self._priors:
            z, y, x = self.clean.shape
            noisy, clean = blocks_of(self.noisy), blocks_of(self.clean)
            blocks = prior_image(prior, noisy, (z, y, x), self.sigma, self.spacing_mm[0], clean)
            self._priors[prior] = blocks(Box((0, 0, 0), (z, y, x)))
        return self._priors[prior]


def compare(
    comparison: Comparison, tick: Tick
) -> tuple[list[Row], dict[str, dict[str, str]], list[Picture]]:
    """Scores every method on every case at every level.

    Returns:
        The rows of scores; the settings of each method by level; a picture of each level.
    """
    networks = Networks(comparison.methods)
    priors = {e.label: e.prior or comparison.prior for e in comparison.methods}
    rows: list[Row] = []
    settings: dict[str, dict[str, str]] = {}
    pictures: list[Picture] = []
    for level in comparison.levels:
        chosen = networks.at(level.noise) | _tuned(comparison, priors, level, tick)
        settings[level.label] = {e.label: repr(chosen[e.label]) for e in comparison.methods}
        for volume in comparison.cases:
            case = ComparedCase(comparison, volume, level)
            part = comparison.scored(case.clean.shape[0])
            images = case.images.part(part)
            middle = images.clean.shape[0] // 2
            shown = {"clean": images.clean[middle], "noisy": images.noisy[middle]}
            for label in settings[level.label]:
                tick(f"{label}, {volume.case}, {level.label}")
                estimate = _estimate(chosen[label], case, priors[label], part)
                estimate = images.keeping_padding(estimate)
                shown[label] = estimate[middle]
                found = _scores(comparison.window, images, estimate)
                if level.noise.scanned:
                    found |= attenuation_scores(images.hu, comparison.window.hu(estimate))
                rows.append(Row(label, volume.case, level.label, found))
            if volume is comparison.cases[0]:
                in_hu = {name: comparison.window.hu(slice_) for name, slice_ in shown.items()}
                pictures.append(Picture(volume.case, level.label, in_hu))
    return rows, settings, pictures


def _tuned(
    comparison: Comparison, priors: dict[str, NeighbourMean], level: Level, tick: Tick
) -> dict[str, Any]:
    """The classical methods, tuned on the tuning cases."""
    cases: list[ComparedCase] = []
    chosen = {}
    for compared in comparison.methods:
        if compared.model:
            continue
        method = METHODS[compared.classical]()
        if comparison.tuning and len(method.candidates()) > 1:
            tick(f"tuning {compared.label}, {level.label}")
            cases = cases or [
                ComparedCase(comparison, volume, level) for volume in comparison.tuning
            ]
            method = tuned(method, [_block(case, priors[compared.label]) for case in cases])
        chosen[compared.label] = method
    return chosen


def _block(case: ComparedCase, prior: NeighbourMean) -> tuple[Unit, Given]:
    """The middle block of a tuning case, as an argument of `tuned`."""
    box = _central(case.clean.shape, _TUNING)
    images = (case.clean, case.noisy, case.prior(prior))
    clean, noisy, second = (read_box(image, box) for image in images)
    return clean, (noisy, case.sigma, case.spacing_mm, second)


def _estimate(method: Any, case: ComparedCase, prior: NeighbourMean, part: slice) -> Unit:
    """The estimate of the scored slices, from the slices that the method needs."""
    seen = part if method.slicewise else slice(None)
    # Copies, so that a method cannot change the input of the next one.
    noisy, second = case.noisy[seen].copy(), case.prior(prior)[seen].copy()
    estimate: Unit = method.estimate(noisy, case.sigma, case.spacing_mm, second)
    return estimate if seen == part else estimate[part]


def _of_hu(clean: Unit, estimate: Unit, window: Window) -> dict[str, float]:
    return {
        **window_psnr(clean, estimate, window),
        "rmse_soft_tissue_hu": soft_tissue_rmse(clean, estimate, window),
    }


def _central(shape: tuple[int, ...], wanted: tuple[int, int, int]) -> Box:
    z, y, x = (min(n, w) for n, w in zip(shape, wanted, strict=True))
    start = [(n - w) // 2 for n, w in zip(shape, (z, y, x), strict=True)]
    return Box((start[0], start[1], start[2]), (z, y, x))


def _scores(window: Window, images: CaseImages, estimate: Unit) -> dict[str, float]:
    clean, within = images.clean, images.within
    residual, error = images.noisy - estimate, (estimate - clean)[within]
    return {
        **asdict(scores(clean, estimate, window)),
        "bias_hu": window.width_hu * float(np.mean(error, dtype=np.float64)),
        # Only for HU: photographs and pairs have grey values from 0 up.
        **(_of_hu(clean, estimate, window) if window.low_hu < 0 else {}),
        "residual_autocorrelation": autocorrelation(residual, within),
        "residual_at_edges": edge_correlation(residual, clean, within),
    }
