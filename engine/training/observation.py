"""Observation: what TensorBoard shows of a training beside its scalars and panels.

It says how a training is observed, not what is learned: the weights are the same to the bit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import BadUsage


@dataclass(frozen=True)
class Observation:
    """Histograms and a profile.

    Attributes:
        histograms: draws histograms of weights and gradients every so many steps; None draws none.
        profile: first and last step that are profiled, counted from 1; None profiles none.

    Raises:
        BadUsage: if they name no steps.

    Example:
        >>> Observation(profile=(7, 3))
        Traceback (most recent call last):
        engine.errors.BadUsage: --profile: 7:3 names no steps. Write the first and the last, such as 100:110.
    """  # noqa: E501

    histograms: int | None = None
    profile: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.histograms is not None and self.histograms < 1:
            cause = f"takes a number of steps, not {self.histograms}"
            raise BadUsage("--histograms", cause, "Write such as 1000")
        if self.profile is not None and not 1 <= self.profile[0] <= self.profile[1]:
            _refuse_profile(f"{self.profile[0]}:{self.profile[1]}")

    def refuse_beyond(self, steps: int) -> None:
        """Refuses a profile of steps that a training does not have.

        Raises:
            BadUsage: naming the last step.
        """
        if self.profile is not None and self.profile[1] > steps:
            cause = f"asks for step {self.profile[1]:,}, and the training ends at {steps:,}"
            raise BadUsage("--profile", cause, "Choose earlier steps")


SCALARS = Observation()


def profiled_steps(text: str) -> tuple[int, int]:
    """The first and the last step of a profile.

    Raises:
        BadUsage: if the text is not A:B.

    Example:
        >>> profiled_steps("100:110")
        (100, 110)
    """
    if not re.fullmatch(r"\d{1,12}:\d{1,12}", text):
        _refuse_profile(text)
    first, last = text.split(":")
    return int(first), int(last)


def _refuse_profile(text: str) -> None:
    remedy = "Write the first and the last, such as 100:110"
    raise BadUsage("--profile", f"{text} names no steps", remedy)
