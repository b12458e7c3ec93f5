"""Schedules: the learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol


class Schedule(Protocol):
    """A learning rate as a function of the step: a frozen dataclass that can be called."""

    def __call__(self, step: int, steps: int) -> float:
        """The rate at a step, from 0, of a training of `steps` steps."""


@dataclass(frozen=True)
class Constant:
    """A constant learning rate."""

    rate: float

    def __post_init__(self) -> None:
        _positive(self.rate)

    def __call__(self, step: int, steps: int) -> float:
        """The rate at a step, from 0, of a training of `steps` steps."""
        return self.rate


@dataclass(frozen=True)
class Cosine:
    """Cosine annealing from `rate` at the first step to `last` at the last step.

    Loshchilov and Hutter, ICLR 2017, equation 5, without restarts. The rate depends on the number
    of steps: if a run is extended, it continues on the longer curve.
    """

    rate: float
    last: float = 0.0

    def __post_init__(self) -> None:
        _positive(self.rate)
        if self.last < 0:
            raise ValueError(f"the last learning rate must not be negative, not {self.last}")

    def __call__(self, step: int, steps: int) -> float:
        """The rate at a step, from 0, of a training of `steps` steps."""
        turn = math.pi * min(step / max(steps - 1, 1), 1.0)
        return self.last + (self.rate - self.last) * (1 + math.cos(turn)) / 2


@dataclass(frozen=True)
class Piecewise:
    """A piecewise constant learning rate.

    Attributes:
        pieces: (first step, rate) of each piece. The first piece starts at step 0.
    """

    pieces: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.pieces]
        if not starts or starts[0] != 0 or any(b <= a for a, b in pairwise(starts)):
            raise ValueError(
                f"pieces must start at step 0 and then at later steps, not at {starts}"
            )
        for _, rate in self.pieces:
            _positive(rate)

    def __call__(self, step: int, steps: int) -> float:
        """The rate at a step, from 0, of a training of `steps` steps."""
        return [rate for start, rate in self.pieces if start <= step][-1]


@dataclass(frozen=True)
class WarmUp:
    """A linear warm-up over the first steps of another schedule.

    Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2. The rate of `then` is
    multiplied by a factor that rises to 1. The schedule is not shifted.

    Attributes:
        steps: number of steps of the warm-up.
        then: the schedule.

    Example:
        >>> rate = WarmUp(200, Cosine(2e-3, 2e-5))
        >>> rate(0, 1000), rate(999, 1000)
        (1e-05, 2e-05)
    """

    steps: int
    then: Schedule

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a warm-up takes at least one step, not {self.steps}")

    def __call__(self, step: int, steps: int) -> float:
        """The rate at a step, from 0, of a training of `steps` steps."""
        return self.then(step, steps) * min(1.0, (step + 1) / self.steps)


def constant(rate: float) -> Constant:
    """A constant learning rate.

    Example:
        >>> constant(1e-4)(step=500, steps=1000)
        0.0001
    """
    return Constant(rate)


def cosine(rate: float, last: float = 0.0) -> Cosine:
    """Cosine annealing from `rate` to `last`.

    Example:
        >>> rate = cosine(1e-3, 1e-5)
        >>> rate(0, 101), rate(100, 101)
        (0.001, 1e-05)
    """
    return Cosine(rate, last)


def piecewise(*pieces: tuple[int, float]) -> Piecewise:
    """A piecewise constant learning rate from (first step, rate) pairs.

    Example:
        >>> rate = piecewise((0, 1e-3), (30_000, 1e-4))
        >>> rate(29_999, 50_000), rate(30_000, 50_000)
        (0.001, 0.0001)
    """
    return Piecewise(pieces)


def warm_up(steps: int, then: Schedule) -> WarmUp:
    """A linear warm-up over the first steps of a schedule.

    Example:
        >>> rate = warm_up(200, constant(1e-3))
        >>> rate(99, 1000), rate(500, 1000)
        (0.0005, 0.001)
    """
    return WarmUp(steps, then)


def parse_schedule(text: str) -> Schedule:
    """The schedule of a text from the command line.

    The forms are `1e-4`, `cosine:1e-3`, `cosine:1e-3,1e-5` and `piecewise:0=1e-3,30000=1e-4`
    (step=rate), with `warm_up:STEPS+` before it if wanted.

    Raises:
        ValueError: if the text has another form.

    Example:
        >>> parse_schedule("warm_up:200+cosine:1e-3,1e-5")
        WarmUp(steps=200, then=Cosine(rate=0.001, last=1e-05))
    """
    before, plus, rest = text.partition("+")
    if plus and before.startswith("warm_up:"):
        then = parse_schedule(rest)
        if isinstance(then, WarmUp):
            raise ValueError(f"takes one warm-up, not {text!r}")
        return WarmUp(int(before.removeprefix("warm_up:")), then)
    kind, colon, numbers = text.rpartition(":")
    if kind == "piecewise":
        pieces = [piece.partition("=") for piece in numbers.split(",")]
        return Piecewise(tuple((int(start), float(rate)) for start, _, rate in pieces))
    rates = [float(number) for number in numbers.split(",")]
    if not colon and len(rates) == 1:
        return Constant(rates[0])
    if kind == "cosine" and len(rates) <= 2:
        return Cosine(*rates)
    kinds = (
        "a rate, cosine:RATE, cosine:RATE,LAST or piecewise:0=RATE,STEP=RATE, with or without "
        "warm_up:STEPS+ before it"
    )
    raise ValueError(f"takes {kinds}, not {text!r}")


def _positive(rate: float) -> None:
    if not 0 < rate < math.inf:
        raise ValueError(f"a learning rate must be positive, not {rate}")
