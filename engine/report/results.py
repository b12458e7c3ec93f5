"""Results of a comparison: rows of scores, and pictures."""

from __future__ import annotations

from dataclasses import dataclass

from engine.scoring.removed_noise import RemovedNoise
from volumes.volume import SpacingMm, Unit


@dataclass(frozen=True)
class Row:
    """The scores of one method on one case at one noise level.

    Attributes:
        method: its name.
        case: name of the case.
        level: of noise, such as "10%".
        scores: by name.
        noise: spectra of the noise and of what the method removed; None if they were not measured.
    """

    method: str
    case: str
    level: str
    scores: dict[str, float]
    noise: RemovedNoise | None = None


MOST_SHOWN = 24  # slices of a stack


def shown_slices(depth: int, middle: int) -> tuple[int, ...]:
    """At most 24 slices for the viewer: evenly spaced about the middle one, which is one of them.

    Example:
        >>> shown_slices(5, 2), len(shown_slices(100, 50)), shown_slices(100, 50)[:3]
        ((0, 1, 2, 3, 4), 20, (0, 5, 10))
    """
    step = -(-depth // MOST_SHOWN)
    return tuple(range(middle % step, depth, step))


@dataclass(frozen=True)
class Stack:
    """Slices of one case, for the viewer.

    Attributes:
        numbers: of the slices in their volume, from 0.
        depth: slices of the volume.
        spacing_mm: distance of neighbouring voxels along (Z, Y, X).
        images: (N, Y, X) HU by name; residuals are the second image less another.
    """

    numbers: tuple[int, ...]
    depth: int
    spacing_mm: SpacingMm
    images: dict[str, Unit]


@dataclass(frozen=True)
class Picture:
    """Slices of the first case in HU, by method.

    Attributes:
        case: its name.
        level: of noise.
        slices: (Y, X) middle of the scored slices, for a figure.
        stack: more of them, for the viewer; None for none.
    """

    case: str
    level: str
    slices: dict[str, Unit]
    stack: Stack | None = None
