"""Rounds: several ways to do the same take turns in one process, so that they can be compared.

A drift of the machine's speed affects all of them. The order is reversed in every second round.
Ratios are taken within a round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Taken(NamedTuple):
    """The time that a way took, once.

    Attributes:
        seconds: on the clock.
        processor_s: of all threads of the process. Other programs hardly change it.
    """

    seconds: float
    processor_s: float


class Ratio(NamedTuple):
    """The median of the ratios in single rounds, and the smallest and largest one."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """Such as "1.21 (1.18 to 1.25)"."""
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


Times = dict[str, list[Taken]]


def timed(work: Callable[[], object]) -> Taken:
    """The time of one piece of work in this process."""
    seconds, processor_s = time.perf_counter(), time.process_time()
    work()
    return Taken(time.perf_counter() - seconds, time.process_time() - processor_s)


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """The times of every way, one a round.

    Args:
        ways: by name. Each has run before, so that nothing is prepared any more.
        rounds: number of turns of each.
    """
    times: Times = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else reversed(list(ways)):
            times[name].append(timed(ways[name]))
    return times


def median(taken: list[Taken]) -> Taken:
    """The medians over the rounds."""
    return Taken(*(statistics.median(column) for column in zip(*taken, strict=True)))


def ratio(taken: list[Taken], reference: list[Taken]) -> Ratio:
    """Processor seconds relative to those of a reference in the same rounds.

    Example:
        >>> str(ratio([Taken(9, 2.0), Taken(9, 3.0)], [Taken(9, 1.0), Taken(9, 2.0)]))
        '1.75 (1.50 to 2.00)'
    """
    found = [a.processor_s / b.processor_s for a, b in zip(taken, reference, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found))
