"""The watch: numbers that leave the finite end a training, and one that learns nothing is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import NumericalFailure
from engine.recipe.recipe import Recipe
from engine.scoring.case_images import Pair
from engine.scoring.metrics import scores
from volumes.sampling.examples import Examples
from volumes.volume import Unit

_BAD_STEPS = 3
_BAD_SCALED_STEPS = 50  # halving the loss scale takes a few steps to find one that fits
_BAD_VALIDATIONS = 3
_DIVERGED = 10.0  # times the best mean squared error
_HARDLY = 0.01


class Watch:
    """Watches one process's part of a training.

    Args:
        folder: of the run.
        recipe: that is trained.
        precision: of the network's inner layers.
        examples: that are learned from, to tell which were in a bad step.
        warn: is told, once a kind, of what does not end the training.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, precision: str, examples: Examples,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._folder, self._recipe, self._precision = folder, recipe, precision
        self._examples, self._warn = examples, warn
        # Of a row of steps: without a finite loss, without finite gradients.
        self._losses = self._gradients = 0
        self._norm = math.nan
        self._worse: dict[str, int] = {}
        self._told: set[str] = set()

    def step(self, step: int, rate: float, loss: float, finite: bool, norm: float) -> None:
        """Looks at a step that has been done; nothing was learned where it was not finite.

        Args:
            step: counted from 1.
            rate: learning rate.
            loss: of its batch.
            finite: whether loss and gradients were.
            norm: of the gradient.

        Raises:
            NumericalFailure: after three steps in a row; after fifty where only gradients overflow
                and the loss scale may still find its place.
        """
        self._losses = 0 if math.isfinite(loss) else self._losses + 1
        self._gradients = 0 if finite else self._gradients + 1
        allowed = _BAD_SCALED_STEPS if self._precision == "float16" else _BAD_STEPS
        if finite and math.isfinite(loss):
            self._norm = norm
        elif self._losses >= _BAD_STEPS or self._gradients >= allowed:
            what = "a finite loss" if self._losses >= _BAD_STEPS else "finite gradients"
            cause = (
                f"{max(self._losses, self._gradients)} steps in a row without {what}, the last one "
                f"step {step:,} on {self._crops(step)}, learning rate {rate:g}, gradient norm "
                f"{norm:g} (the last finite one {self._norm:g})"
            )
            raise NumericalFailure(self._folder, cause, self._remedy())

    def validated(
        self, step: int, mse: float, best_mse: float | None, shown: Pair, estimate: Unit
    ) -> None:
        """Looks at a validation.

        Args:
            step: that was validated.
            mse: mean over the cases.
            best_mse: of the validations before it.
            shown: the first case.
            estimate: of that case.

        Raises:
            NumericalFailure: where the score is not finite.
        """
        if not math.isfinite(mse):
            cause = f"validation at step {step:,} is not finite"
            raise NumericalFailure(self._folder, cause, self._remedy())
        diverged = best_mse is not None and mse > _DIVERGED * best_mse
        if self._often("diverged", diverged):
            self._tell(
                f"{_BAD_VALIDATIONS} validations in a row are more than {_DIVERGED:g} times worse "
                "than the best one: lower the learning rate"
            )
        untouched = scores(shown.clean, shown.noisy, self._recipe.window).mse
        reached = scores(shown.clean, estimate, self._recipe.window).mse
        if self._often("useless", reached >= untouched):
            self._tell(
                f"after {_BAD_VALIDATIONS} validations the estimate of {shown.case} is no better "
                "than its noisy image"
            )
        if np.ptp(shown.clean) == 0:
            self._tell(f"{shown.case} is constant where it is validated: it tells nothing")
        elif _spread(estimate) < _HARDLY * _spread(shown.clean):
            self._tell(f"the estimate of {shown.case} is constant, whatever the network is shown")
        elif _apart(estimate, shown.noisy) < _HARDLY * _apart(shown.clean, shown.noisy):
            self._tell(f"the estimate of {shown.case} is its noisy image")

    def saved(self, step: int, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Looks at what is to be saved.

        Raises:
            NumericalFailure: where a variable is not finite: it would be trained on for ever.
        """
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                cause = f"holds numbers in {name} that are not finite, at step {step:,}"
                raise NumericalFailure(self._folder, cause, self._remedy())

    def _crops(self, step: int) -> str:
        batch = self._recipe.batch
        examples = [self._examples[i] for i in range((step - 1) * batch, step * batch)]
        return ", ".join(f"{example.case} at {example.box.start}" for example in examples)

    def _remedy(self) -> str:
        if self._precision == "float16":
            return "Use --precision bfloat16 or float32, or lower the learning rate"
        other = "" if self._precision == "float32" else ", or use --precision float32"
        return f"Lower the learning rate or set clip_norm{other}"

    def _often(self, what: str, found: bool) -> bool:
        self._worse[what] = self._worse.get(what, 0) + 1 if found else 0
        return self._worse[what] == _BAD_VALIDATIONS

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._warn(f"{self._folder}: {text}")


def _apart(one: Unit, other: Unit) -> float:
    """Root mean square of a difference."""
    return float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2)))


def _spread(image: Unit) -> float:
    return float(image.std(dtype=np.float64))
