"""Schedules: the learning rate as a function of the step, with no state of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """The same rate at every step."""

    rate: float

    def __post_init__(self) -> None:
        _positive(self.rate)

    def __call__(self, step: int, steps: int) -> float:
        """The rate at a step (the first is 0) of so many."""
        return self.rate


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `rate` at the first step to `last` at the last one.

    Loshchilov and Hutter, ICLR 2017, equation 5, without restarts. The rate depends on the number
    of steps: a run that is made longer goes on along the longer curve.
    """

    rate: float
    last: float = 0.0

    def __post_init__(self) -> None:
        _positive(self.rate)

    def __call__(self, step: int, steps: int) -> float:
        """The rate at a step (the first is 0) of so many."""
        turn = math.pi * min(step / max(steps - 1, 1), 1.0)
        return self.last + (self.rate - self.last) * (1 + math.cos(turn)) / 2


Schedule = Constant | Cosine


def constant(rate: float) -> Constant:
    """The same rate at every step."""
    return Constant(rate)


def cosine(rate: float, last: float = 0.0) -> Cosine:
    """Half a cosine from `rate` to `last`."""
    return Cosine(rate, last)


def parse(text: str) -> Schedule:
    """A schedule from the command line: `1e-4`, `cosine:1e-3` or `cosine:1e-3,1e-5`.

    Raises:
        ValueError: where it is none of these.
    """
    kind, colon, numbers = text.rpartition(":")
    rates = [float(number) for number in numbers.split(",")]
    if not colon and len(rates) == 1:
        return Constant(rates[0])
    if kind == "cosine" and len(rates) <= 2:
        return Cosine(*rates)
    raise ValueError(f"takes a rate, or cosine:RATE or cosine:RATE,LAST, not {text!r}")


def _positive(rate: float) -> None:
    if not rate > 0:
        raise ValueError(f"a learning rate must be positive, not {rate}")
