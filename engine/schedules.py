"""Schedules: the learning rate as a function of the step, with no state of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise


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
        if self.last < 0:
            raise ValueError(f"a last learning rate must not be negative, not {self.last}")

    def __call__(self, step: int, steps: int) -> float:
        """The rate at a step (the first is 0) of so many."""
        turn = math.pi * min(step / max(steps - 1, 1), 1.0)
        return self.last + (self.rate - self.last) * (1 + math.cos(turn)) / 2


@dataclass(frozen=True)
class Piecewise:
    """Rates that each hold from a step on, until the next one.

    Attributes:
        pieces: (first step, rate), the first of them from step 0 on.
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
        """The rate at a step (the first is 0) of so many."""
        return [rate for start, rate in self.pieces if start <= step][-1]


@dataclass(frozen=True)
class WarmUp:
    """A schedule whose rate rises from almost 0 to its own over the first steps.

    Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2. It does not shift the
    schedule: at step n of it the rate is that of `then` at step n.

    Attributes:
        steps: over which the rate rises.
        then: the schedule.

    Example:
        >>> rate = WarmUp(200, Cosine(2e-3, 2e-5))
        >>> rate(0, 1000), rate(999, 1000)
        (1e-05, 2e-05)
    """

    steps: int
    then: Constant | Cosine | Piecewise

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a warm-up takes at least one step, not {self.steps}")

    def __call__(self, step: int, steps: int) -> float:
        """The rate at a step (the first is 0) of so many."""
        return self.then(step, steps) * min(1.0, (step + 1) / self.steps)


Schedule = Constant | Cosine | Piecewise | WarmUp


def constant(rate: float) -> Constant:
    """The same rate at every step."""
    return Constant(rate)


def cosine(rate: float, last: float = 0.0) -> Cosine:
    """Half a cosine from `rate` to `last`."""
    return Cosine(rate, last)


def piecewise(*pieces: tuple[int, float]) -> Piecewise:
    """Rates that each hold from a step on, such as `piecewise((0, 1e-3), (30_000, 1e-4))`."""
    return Piecewise(pieces)


def warm_up(steps: int, then: Constant | Cosine | Piecewise) -> WarmUp:
    """A schedule whose rate rises over the first steps, such as `warm_up(200, cosine(1e-3))`."""
    return WarmUp(steps, then)


def parse_schedule(text: str) -> Schedule:
    """A schedule from the command line.

    `1e-4`, `cosine:1e-3`, `cosine:1e-3,1e-5`, or `piecewise:0=1e-3,30000=1e-4` (step=rate), each
    with or without `warm_up:STEPS+` before it.

    Raises:
        ValueError: where it is none of these.
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
        "a rate, cosine:RATE, cosine:RATE,LAST or piecewise:0=RATE,STEP=RATE, each with or without "
        "warm_up:STEPS+ before it"
    )
    raise ValueError(f"takes {kinds}, not {text!r}")


def _positive(rate: float) -> None:
    if not 0 < rate < math.inf:
        raise ValueError(f"a learning rate must be positive, not {rate}")
