"""Health checks: non-finite numbers end a training; a network that learns nothing is reported."""

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
_BAD_SCALED_STEPS = 50  # several halvings may be needed until the loss scale fits
_BAD_VALIDATIONS = 3
_DIVERGED = 10.0  # times the best mean squared error
_HARDLY = 0.01


class Health:
    """Health checks of one training process.

    Args:
        folder: of the run.
        recipe: what is trained.
        precision: of the network's inner layers.
        examples: of the training, to name those of a bad step.
        warn: called once per warning.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, precision: str, examples: Examples,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._folder, self._recipe, self._precision = folder, recipe, precision
        self._examples, self._warn = examples, warn
        # Consecutive steps without a finite loss, and without finite gradients.
        self._losses = self._gradients = 0
        self._norm = math.nan
        self._worse: dict[str, int] = {}
        self._warned: set[str] = set()

    def step(self, step: int, rate: float, loss: float, finite: bool, norm: float) -> None:
        """Checks a finished step. A step that is not finite has not changed the weights.

        Args:
            step: counted from 1.
            rate: learning rate.
            loss: of its batch.
            finite: whether loss and gradients were finite.
            norm: of the gradient.

        Raises:
            NumericalFailure: after three bad steps in a row. In float16 after fifty if only the
                gradients overflow, because the loss scale may still adapt.
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
        """Checks a validation.

        Args:
            step: of the validation.
            mse: mean over the cases.
            best_mse: the best of the earlier validations.
            shown: the first case.
            estimate: of that case.

        Raises:
            NumericalFailure: if the score is not finite.
        """
        if not math.isfinite(mse):
            cause = f"validation at step {step:,} is not finite"
            raise NumericalFailure(self._folder, cause, self._remedy())
        diverged = best_mse is not None and mse > _DIVERGED * best_mse
        if self._often("diverged", diverged):
            self._warn_once(
                f"{_BAD_VALIDATIONS} validations in a row are more than {_DIVERGED:g} times worse "
                "than the best one: lower the learning rate"
            )
        untouched = scores(shown.clean, shown.noisy, self._recipe.window).mse
        reached = scores(shown.clean, estimate, self._recipe.window).mse
        if self._often("useless", reached >= untouched):
            self._warn_once(
                f"after {_BAD_VALIDATIONS} validations the estimate of {shown.case} is no better "
                "than its noisy image"
            )
        if np.ptp(shown.clean) == 0:
            self._warn_once(
                f"{shown.case} is constant in the validated slices: its scores mean nothing"
            )
        elif _spread(estimate) < _HARDLY * _spread(shown.clean):
            self._warn_once(f"the estimate of {shown.case} is constant")
        elif _apart(estimate, shown.noisy) < _HARDLY * _apart(shown.clean, shown.noisy):
            self._warn_once(f"the estimate of {shown.case} is its noisy image")

    def saved(self, step: int, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Checks the variables before they are saved.

        Raises:
            NumericalFailure: if a variable is not finite. It would spoil every later step.
        """
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                cause = f"holds numbers in {name} that are not finite, at step {step:,}"
                raise NumericalFailure(self._folder, cause, self._remedy())

    def _crops(self, step: int) -> str:
        batch = self._recipe.examples_per_step
        examples = [self._examples[i] for i in range((step - 1) * batch, step * batch)]
        return ", ".join(f"{example.case} at {example.box.start}" for example in examples)

    def _remedy(self) -> str:
        if self._precision == "float16":
            return "Use --precision bfloat16 or float32, or lower the learning rate"
        other = "" if self._precision == "float32" else ", or use --precision float32"
        return f"Lower the learning rate or set clip_norm{other}"

    def _often(self, what: str, found: bool) -> bool:
        """Whether this is the third finding in a row."""
        self._worse[what] = self._worse.get(what, 0) + 1 if found else 0
        return self._worse[what] == _BAD_VALIDATIONS

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn(f"{self._folder}: {text}")


def _apart(one: Unit, other: Unit) -> float:
    """Root mean square of the difference."""
    return float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2)))


def _spread(image: Unit) -> float:
    return float(image.std(dtype=np.float64))
