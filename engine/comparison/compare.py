"""Comparison: scores every method on the same cases with the same noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from engine.comparison.applied_network import AppliedNetworks
from engine.comparison.classical import METHODS, Given, tuned
from engine.comparison.methods import ComparedMethod
from engine.comparison.noise_levels import Level
from engine.inference.prior_image import prior_image
from engine.inference.tiling import blocks_of
from engine.report.results import Picture, Row, Stack, shown_slices
from engine.scoring.case_images import NOISE_SEED, CaseImages, case_images
from engine.scoring.hu_fidelity import hu_fidelity
from engine.scoring.metrics import attenuation_scores, scores, soft_tissue_rmse, window_psnr
from engine.scoring.removed_noise import AddedNoise
from engine.scoring.residual import autocorrelation, edge_correlation
from volumes import NeighbourMean, Window
from volumes.boxes import Box, read_box
from volumes.volume import SpacingMm, Unit, Volume

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
    keep_bone = comparison.protocol != "reference" and comparison.window.unit_name == "HU"
    networks = AppliedNetworks(comparison.methods, keep_bone=keep_bone)
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
            first = volume is comparison.cases[0]
            shown = _Shown(images, part.start, case.clean.shape[0], case.spacing_mm)
            noise = AddedNoise(images, case.spacing_mm, comparison.window.width_hu)
            for label in settings[level.label]:
                tick(f"{label}, {volume.case}, {level.label}")
                estimate = _estimate(chosen[label], case, priors[label], part)
                estimate = images.keeping_padding(estimate)
                if first:
                    shown.add(label, estimate)
                found = _scores(comparison, images, estimate)
                if level.noise.scanned:
                    found |= attenuation_scores(images.hu, comparison.window.hu(estimate))
                removed = noise.beside(estimate)
                rows.append(Row(label, volume.case, level.label, found, removed))
            if first:
                pictures.append(shown.picture(volume.case, level.label, comparison.window))
    return rows, settings, pictures


class _Shown:
    """The slices of the first case that are shown, by name."""

    def __init__(self, images: CaseImages, first: int, depth: int, spacing_mm: SpacingMm) -> None:
        self._middle, scored = len(images.clean) // 2, len(images.clean)
        self._of = shown_slices(scored, self._middle)
        numbers = tuple(first + number for number in self._of)
        self._stack = Stack(numbers, depth, spacing_mm, {})
        self._slices: dict[str, Unit] = {}
        self.add("clean", images.clean)
        self.add("noisy", images.noisy)

    def add(self, name: str, image: Unit) -> None:
        """Adds (Z, Y, X) in window units."""
        self._slices[name] = image[self._middle].copy()
        self._stack.images[name] = image[list(self._of)]

    def picture(self, case: str, level: str, window: Window) -> Picture:
        """The slices in HU."""
        slices = {name: window.hu(image) for name, image in self._slices.items()}
        images = {name: window.hu(image) for name, image in self._stack.images.items()}
        return Picture(case, level, slices, replace(self._stack, images=images))


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
            method = tuned(method, [_block(method, case, priors[compared.label]) for case in cases])
        chosen[compared.label] = method
    return chosen


def _block(method: Any, case: ComparedCase, prior: NeighbourMean) -> tuple[Unit, Given]:
    """The middle block of a tuning case, as an argument of `tuned`."""
    box = _central(case.clean.shape, _TUNING)
    clean, noisy = (read_box(image, box) for image in (case.clean, case.noisy))
    second = read_box(case.prior(prior), box) if method.sees_prior else None
    return clean, (noisy, case.sigma, case.spacing_mm, second)


def _estimate(method: Any, case: ComparedCase, prior: NeighbourMean, part: slice) -> Unit:
    """The estimate of the scored slices, from the slices that the method needs."""
    seen = part if method.slicewise else slice(None)
    # Copies, so that a method cannot change the input of the next one.
    noisy = case.noisy[seen].copy()
    second = case.prior(prior)[seen].copy() if method.sees_prior else None
    estimate: Unit = method.estimate(noisy, case.sigma, case.spacing_mm, second)
    return estimate if seen == part else estimate[part]


def _of_hu(comparison: Comparison, images: CaseImages, estimate: Unit) -> dict[str, float]:
    window, clean = comparison.window, images.clean
    # The reference adds noise to the clipped image: what it clips away is no shift of the method.
    clean_hu = window.hu(clean) if comparison.protocol == "reference" else images.hu
    return {
        **window_psnr(clean, estimate, window),
        "rmse_soft_tissue_hu": soft_tissue_rmse(clean, estimate, window),
        **hu_fidelity(clean_hu, window.hu(estimate), ~images.padding, window.high_hu),
    }


def _central(shape: tuple[int, ...], wanted: tuple[int, int, int]) -> Box:
    z, y, x = (min(n, w) for n, w in zip(shape, wanted, strict=True))
    start = [(n - w) // 2 for n, w in zip(shape, (z, y, x), strict=True)]
    return Box((start[0], start[1], start[2]), (z, y, x))


def _scores(comparison: Comparison, images: CaseImages, estimate: Unit) -> dict[str, float]:
    window, clean, within = comparison.window, images.clean, images.within
    residual, error = images.noisy - estimate, (estimate - clean)[within]
    return {
        **asdict(scores(clean, estimate, window)),
        "bias_hu": window.width_hu * float(np.mean(error, dtype=np.float64)),
        # Only for HU: photographs and pairs have grey values from 0 up.
        **(_of_hu(comparison, images, estimate) if window.low_hu < 0 else {}),
        "residual_autocorrelation": autocorrelation(residual, within),
        "residual_at_edges": edge_correlation(residual, clean, within),
    }
