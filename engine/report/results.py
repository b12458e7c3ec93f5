"""Results: what a comparison hands to the report."""

from __future__ import annotations

from dataclasses import dataclass

from volumes.volume import Unit


@dataclass(frozen=True)
class Row:
    """How one method did on one case at one level of noise.

    Attributes:
        method: its name.
        case: name of the case.
        level: of degradation, such as "10%".
        scores: by name.
    """

    method: str
    case: str
    level: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Picture:
    """The middle slice of the first case in HU, by method, for the figure."""

    case: str
    level: str
    slices: dict[str, Unit]
