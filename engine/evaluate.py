"""Evaluation: scores on fixed cases with fixed noise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine.estimate import Estimator, blocks_of, plan, prior_blocks, source_blocks
from engine.metrics import Scores, scores
from engine.prior import opened
from engine.recipe import Recipe
from volumes.crops import Box
from volumes.volume import Unit, Volume

_SEED = 0  # of validation's noise: the same for every run, so that runs can be compared


@dataclass(frozen=True)
class Pair:
    """One validation case, made once and never changed.

    Attributes:
        case: its name.
        clean, noisy, prior: (Z, Y, X) in window units; no prior where the recipe has none.
    """

    case: str
    clean: Unit
    noisy: Unit
    prior: Unit | None


def pair(recipe: Recipe, volume: Volume, slices: int | None = None) -> Pair:
    """The clean and the noisy image of a case, and its prior.

    The noise is keyed by the case and the slice alone: it is the same in every run and for every
    network.

    Args:
        recipe: gives window, noise and prior.
        volume: the clean scan.
        slices: how many, about the middle; None takes all.
    """
    depth = volume.hu.shape[0]
    length = min(depth, slices or depth)
    first = (depth - length) // 2
    hu = recipe.noise.reference(volume.hu[first : first + length])
    clean = recipe.window.unit(hu)
    if recipe.window.clip:
        clean = np.clip(clean, 0, 1)
    noisy = recipe.noise.noisy(volume, clean, recipe.window, _SEED, first)
    if recipe.prior is None:
        return Pair(volume.case, clean, noisy, None)
    shape = (length, clean.shape[1], clean.shape[2])
    blocks = source_blocks(
        opened(recipe.prior.of), blocks_of(noisy), shape, recipe.noise.typical, blocks_of(clean)
    )
    prior = prior_blocks(recipe.prior, blocks, length, volume.spacing_mm[0])
    return Pair(volume.case, clean, noisy, prior(Box((0, 0, 0), shape)))


class Validation:
    """Scores a network on the validation cases."""

    def __init__(self, recipe: Recipe, volumes: Iterable[Volume]) -> None:
        self._recipe = recipe
        self.pairs = [pair(recipe, volume, recipe.validate_slices) for volume in volumes]

    def baselines(self) -> dict[str, dict[str, Scores]]:
        """Scores by method and case of what costs no network: the noisy image and the prior."""
        rows = {"noisy": {p.case: self._scores(p, p.noisy) for p in self.pairs}}
        if self._recipe.prior is not None:
            rows["prior"] = {
                p.case: self._scores(p, p.prior) for p in self.pairs if p.prior is not None
            }
        return rows

    def scores(self, estimator: Estimator) -> tuple[dict[str, Scores], Unit]:
        """Scores by case, and the estimate of the first case for the panel."""
        rows, first = {}, None
        for p in self.pairs:
            estimate = self.estimate(estimator, p)
            rows[p.case] = self._scores(p, estimate)
            first = estimate if first is None else first
        assert first is not None  # a split without validation cases is refused
        return rows, first

    def estimate(self, estimator: Estimator, pair: Pair) -> Unit:
        """The estimate of a case, (Z, Y, X) in window units."""
        z, y, x = pair.clean.shape
        prior = None if pair.prior is None else blocks_of(pair.prior)
        return estimator.volume(plan((z, y, x), self._recipe.network), blocks_of(pair.noisy), prior)

    def _scores(self, pair: Pair, estimate: Unit) -> Scores:
        return scores(pair.clean, estimate, self._recipe.window)


def mean(rows: dict[str, Scores]) -> dict[str, float]:
    """The mean over cases of every score."""
    values = [asdict(row) for row in rows.values()]
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}


def as_rows(scores: dict[str, Scores]) -> dict[str, Any]:
    """Scores by case as plain data."""
    return {case: asdict(row) for case, row in scores.items()}
