"""Validation: scores on fixed cases with fixed noise, at one noise level or several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine.inference.predictor import Predictor
from engine.inference.tiling import blocks_of, plan
from engine.recipe.metric import Metric
from engine.recipe.recipe import Recipe
from engine.scoring.case_images import Pair, levels, pair
from engine.scoring.metrics import Scores, scores
from volumes.boxes import Box
from volumes.volume import Unit, Volume


class Validation:
    """The validation cases at every noise level. Scores a network on them."""

    def __init__(self, recipe: Recipe, volumes: Iterable[Volume]) -> None:
        self._recipe = recipe
        at = levels(recipe)
        found = [
            pair(alike, volume, recipe.validate_slices, level)
            for volume in volumes
            for level, alike in at.items()
        ]
        order = list(at)
        self.pairs = sorted(found, key=lambda each: order.index(each.level))

    def baselines(self) -> dict[str, Scored]:
        """Scores of the methods without a network: the noisy image and the prior."""
        methods = {"noisy": Scored.of([(p, self._scores(p, p.noisy)) for p in self.pairs])}
        if self._recipe.prior is not None:
            methods["prior"] = Scored.of(
                [(p, self._scores(p, p.prior)) for p in self.pairs if p.prior is not None]
            )
        return methods

    def scores(
        self, predictor: Predictor, check_stop: Callable[[], None] = lambda: None
    ) -> tuple[Scored, Unit]:
        """The scores of the network, and its estimate of the first pair, for the preview.

        Args:
            predictor: of the network.
            check_stop: called before each tile and before each pair is scored. It may raise.
        """
        rows, first = [], None
        for p in self.pairs:
            estimate = self.estimate(predictor, p, check_stop)
            check_stop()
            rows.append((p, self._scores(p, estimate)))
            first = estimate if first is None else first
        assert first is not None  # a split without validation cases is refused
        return Scored.of(rows), first

    def estimate(
        self, predictor: Predictor, pair: Pair, check_stop: Callable[[], None] = lambda: None
    ) -> Unit:
        """The estimate of a case, (Z, Y, X) in window units."""
        z, y, x = pair.clean.shape
        prior = None if pair.prior is None else blocks_of(pair.prior)
        noisy = blocks_of(pair.noisy)

        def checked(box: Box) -> Unit:
            check_stop()
            return noisy(box)

        tiles = plan((z, y, x), self._recipe.network)
        return pair.images.keeping_padding(predictor.volume(tiles, checked, prior))

    def _scores(self, pair: Pair, estimate: Unit) -> Scores:
        found = scores(pair.clean, estimate, self._recipe.window)
        metric = self._recipe.best_by
        if not isinstance(metric, Metric):
            return found
        value = float(metric.function(pair.clean, estimate))
        return OwnScores(**asdict(found), name=metric.name, value=value)


@dataclass(frozen=True)
class OwnScores(Scores):
    """The scores of one volume, with that of the recipe's own metric.

    Attributes:
        name: of the metric.
        value: of the metric.
    """

    name: str
    value: float


@dataclass(frozen=True)
class Scored:
    """The scores of one method.

    Attributes:
        cases: scores by level and case.
    """

    cases: Mapping[str, Mapping[str, Scores]]

    @classmethod
    def of(cls, rows: Iterable[tuple[Pair, Scores]]) -> Scored:
        """The scores of all pairs, grouped by level and case."""
        cases: dict[str, dict[str, Scores]] = {}
        for scored, found in rows:
            cases.setdefault(scored.level, {})[scored.case] = found
        return cls(cases)

    @property
    def levels(self) -> dict[str, dict[str, float]]:
        """The mean over cases of every score, by level."""
        return {level: _mean(rows) for level, rows in self.cases.items()}

    @property
    def mean(self) -> dict[str, float]:
        """The mean over levels of every score.

        The mean squared error has a geometric mean: it corresponds to the mean PSNR in decibels,
        and the highest level does not dominate it.
        """
        levels = list(self.levels.values())
        means = {name: float(np.mean([level[name] for level in levels])) for name in levels[0]}
        if len(levels) > 1:
            errors = np.array([level["mse"] for level in levels])
            means["mse"] = float(np.exp(np.mean(np.log(errors)))) if errors.all() else 0.0
        return means

    def rows(self) -> list[dict[str, Any]]:
        """Plain data for metrics.jsonl: a row per level if there are several, then the mean."""
        if len(self.cases) == 1:
            (cases,) = self.cases.values()
            return [{"validation": _plain(cases), "mean": self.mean}]
        rows: list[dict[str, Any]] = [
            {"level": level, "validation": _plain(cases), "mean": _mean(cases)}
            for level, cases in self.cases.items()
        ]
        return [*rows, {"mean": self.mean}]


def _mean(rows: Mapping[str, Scores]) -> dict[str, float]:
    values = [_row(row) for row in rows.values()]
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}


def _plain(scores: Mapping[str, Scores]) -> dict[str, Any]:
    return {case: _row(row) for case, row in scores.items()}


def _row(scores: Scores) -> dict[str, float]:
    """The scores of a volume by name."""
    row = asdict(scores)
    if isinstance(scores, OwnScores):
        row[row.pop("name")] = row.pop("value")
    return row
