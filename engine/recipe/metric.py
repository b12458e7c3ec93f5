"""Metric: the score of the validation that decides which checkpoint is the best one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# The engine's own: the field of `engine.scoring.metrics.Scores`, and whether larger is better.
SCORES = {"psnr": ("psnr_db", True), "ssim": ("ssim", True), "rmse": ("rmse_hu", False)}
_TAKEN = ("mse", "relative_l2_percent", *SCORES, *(field for field, _ in SCORES.values()))


@dataclass(frozen=True)
class Metric:
    """A score of your own.

    Attributes:
        function: (clean, estimate) -> one number. Both are (Z, Y, X) float32 in window units, and
            the estimate is not clipped. Its name stands in metrics.jsonl.
        larger_is_better: whether the best checkpoint has the largest score, or the smallest.

    Example:
        >>> def largest_error(clean, estimate):
        ...     return abs(clean - estimate).max()
        >>> Metric(largest_error, larger_is_better=False).name
        'largest_error'
    """

    function: Callable[[Any, Any], float]
    larger_is_better: bool

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(f"best_by.function must be a function, not {self.function!r}")
        if self.name in _TAKEN:
            raise ValueError(f"best_by.function needs another name than {self.name}")

    @property
    def name(self) -> str:
        """The name of the function."""
        return str(getattr(self.function, "__name__", self.function))


def decisive(best_by: Metric | str) -> tuple[str, bool]:
    """The name in metrics.jsonl of the score that decides, and whether larger is better.

    Example:
        >>> decisive("ssim"), decisive("rmse")
        (('ssim', True), ('rmse_hu', False))
    """
    if isinstance(best_by, Metric):
        return best_by.name, best_by.larger_is_better
    return SCORES[best_by]
