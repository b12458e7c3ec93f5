"""Results of a comparison: rows of scores, and pictures."""

from __future__ import annotations

from dataclasses import dataclass

from volumes.volume import Unit


@dataclass(frozen=True)
class Row:
    """The scores of one method on one case at one noise level.

    Attributes:
        method: its name.
        case: name of the case.
        level: of noise, such as "10%".
        scores: by name.
    """

    method: str
    case: str
    level: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Picture:
    """The middle slice of the first case in HU, by method, for a figure."""

    case: str
    level: str
    slices: dict[str, Unit]
