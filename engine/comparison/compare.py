"""The comparison: every method on the same cases with the same noise, scored alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from engine.comparison.classical import METHODS, Given, tuned
from engine.comparison.methods import Entrant, Networks
from engine.comparison.noise_levels import Level
from engine.inference.prior_image import prior_image
from engine.inference.tiling import blocks_of
from engine.report.results import Picture, Row
from engine.scoring.case_images import NOISE_SEED, case_images
from engine.scoring.metrics import attenuation_scores, scores, soft_tissue_rmse, window_psnr
from engine.scoring.residual import autocorrelation, edge_correlation
from volumes import NeighbourMean, Window
from volumes.boxes import Box, read_box
from volumes.volume import Unit, Volume

_TUNING = (8, 256, 256)  # block of each validation case by which classical methods are tuned
_REFERENCE = (32, 256, 256)

Tick = Callable[[str], None]


@dataclass(frozen=True)
class Contest:
    """What is compared and on what.

    Attributes:
        entrants: the methods.
        cases: volumes that are scored.
        tuning: volumes by which classical methods choose their parameters; without any they keep
            their usual ones.
        levels: of degradation.
        window: of every score.
        prior: that classical methods are given for which no other was named.
        protocol: "volumes", or "reference": the first slice of a central crop.
        slices: scored slices of each case, about its middle; None takes all.
        recorded: the volumes with their recordings, by the label of a recorded level and case.
        noise_seed: of simulated noise, with the case and the slice.
    """

    entrants: Sequence[Entrant]
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
        """Which slices of a known image of that depth are scored."""
        if self.protocol == "reference":
            return slice(0, 1)
        length = min(self.slices or depth, depth)
        first = (depth - length) // 2
        return slice(first, first + length)


class Known:
    """One case at one level: its clean and its noisy image, and every prior that is asked for.

    Attributes:
        clean, noisy: (Z, Y, X) in window units, see `case_images`.
        scanned_hu: (Z, Y, X) clean HU, not clipped; None where no scanner is simulated.
        sigma: standard deviation of the noise in window units, which methods are told: that of the
            level, or of recorded and scanned noise what noisy - clean has within the window.
        spacing_mm: of the volume.
    """

    def __init__(self, contest: Contest, volume: Volume, level: Level) -> None:
        volume = contest.recorded.get(level.label, {}).get(volume.case, volume)
        hu, clean, noisy = case_images(volume, level.noise, contest.window, contest.noise_seed)
        if contest.protocol == "reference":
            box = _central(clean.shape, _REFERENCE)
            hu, clean, noisy = read_box(hu, box), read_box(clean, box), read_box(noisy, box)
        self.clean, self.noisy, self.spacing_mm = clean, noisy, volume.spacing_mm
        self.scanned_hu = hu if level.noise.scanned else None
        self.sigma = level.noise.typical
        if not level.noise.additive:
            within = (clean > 0) & (clean < 1)
            self.sigma = float(np.std((noisy - clean)[within])) if within.any() else 0.0
        self._priors: dict[NeighbourMean, Unit] = {}

    def prior(self, prior: NeighbourMean) -> Unit:
        """(Z, Y, X) in window units; made once."""
        if prior not in self._priors:
            z, y, x = self.clean.shape
            noisy, clean = blocks_of(self.noisy), blocks_of(self.clean)
            blocks = prior_image(prior, noisy, (z, y, x), self.sigma, self.spacing_mm[0], clean)
            self._priors[prior] = blocks(Box((0, 0, 0), (z, y, x)))
        return self._priors[prior]


def compare(
    contest: Contest, tick: Tick
) -> tuple[list[Row], dict[str, dict[str, str]], list[Picture]]:
    """Scores every method on every case at every level.

    Returns:
        The rows; the settings of each method by level; a picture of each level.
    """
    networks = Networks(contest.entrants)
    priors = {e.label: e.prior or contest.prior for e in contest.entrants}
    rows: list[Row] = []
    settings: dict[str, dict[str, str]] = {}
    pictures: list[Picture] = []
    for level in contest.levels:
        chosen = networks.at(level.noise) | _tuned(contest, priors, level, tick)
        settings[level.label] = {e.label: repr(chosen[e.label]) for e in contest.entrants}
        for volume in contest.cases:
            known = Known(contest, volume, level)
            part = contest.scored(known.clean.shape[0])
            clean, noisy = known.clean[part], known.noisy[part]
            middle = clean.shape[0] // 2
            shown = {"clean": clean[middle], "noisy": noisy[middle]}
            for label in settings[level.label]:
                tick(f"{label}, {volume.case}, {level.label}")
                estimate = _estimate(chosen[label], known, priors[label], part)
                shown[label] = estimate[middle]
                found = _scores(contest, level, clean, noisy, estimate)
                if known.scanned_hu is not None:
                    estimate_hu = contest.window.hu(estimate)
                    found |= attenuation_scores(known.scanned_hu[part], estimate_hu)
                rows.append(Row(label, volume.case, level.label, found))
            if volume is contest.cases[0]:
                in_hu = {name: contest.window.hu(slice_) for name, slice_ in shown.items()}
                pictures.append(Picture(volume.case, level.label, in_hu))
    return rows, settings, pictures


def _tuned(
    contest: Contest, priors: dict[str, NeighbourMean], level: Level, tick: Tick
) -> dict[str, Any]:
    """The classical methods with the parameters that the tuning cases choose."""
    known: list[Known] = []
    chosen = {}
    for entrant in contest.entrants:
        if entrant.model:
            continue
        method = METHODS[entrant.method]()
        if contest.tuning and len(method.candidates()) > 1:
            tick(f"tuning {entrant.label}, {level.label}")
            known = known or [Known(contest, volume, level) for volume in contest.tuning]
            method = tuned(method, [_block(each, priors[entrant.label]) for each in known])
        chosen[entrant.label] = method
    return chosen


def _block(known: Known, prior: NeighbourMean) -> tuple[Unit, Given]:
    """The middle of a tuning case, as `tuned` takes it."""
    box = _central(known.clean.shape, _TUNING)
    images = (known.clean, known.noisy, known.prior(prior))
    clean, noisy, second = (read_box(image, box) for image in images)
    return clean, (noisy, known.sigma, known.spacing_mm, second)


def _estimate(method: Any, known: Known, prior: NeighbourMean, part: slice) -> Unit:
    """The estimate of the scored slices, from as many as the method sees."""
    seen = part if method.slicewise else slice(None)
    # Copies: a method must not change what the next one is given.
    noisy, second = known.noisy[seen].copy(), known.prior(prior)[seen].copy()
    estimate: Unit = method.estimate(noisy, known.sigma, known.spacing_mm, second)
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


def _scores(
    contest: Contest, level: Level, clean: Unit, noisy: Unit, estimate: Unit
) -> dict[str, float]:
    residual = noisy - estimate
    if not level.noise.additive:
        # What it shows beyond the window is anatomy that the clean image has lost, not noise.
        residual = np.clip(noisy, 0, 1) - np.clip(estimate, 0, 1)
    return {
        **asdict(scores(clean, estimate, contest.window)),
        "bias_hu": contest.window.width_hu * float(np.mean(estimate - clean, dtype=np.float64)),
        # Photographs and pairs have greys from 0 up, which no radiologist's window shows.
        **(_of_hu(clean, estimate, contest.window) if contest.window.low_hu < 0 else {}),
        "residual_autocorrelation": autocorrelation(residual),
        "residual_at_edges": edge_correlation(residual, clean),
    }
