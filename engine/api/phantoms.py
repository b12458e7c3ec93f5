"""Phantoms, as `engine phantom` writes them."""

from __future__ import annotations

from pathlib import Path

from engine.diagnostics.demo import write_phantoms
from volumes.volume import Shape


def phantom(
    folder: str | Path, *, cases: int = 8, shape: Shape = (48, 256, 256), seed: int = 0
) -> Path:
    """Writes synthetic abdomens in KiTS19's layout, and returns the folder.

    Args:
        folder: of the cases, made if it does not exist.
        cases: their number.
        shape: (Z, Y, X) voxels of each.
        seed: of the anatomy. A case is a function of the seed, its number and the shape.

    Raises:
        CannotWrite: if a case exists or cannot be written.

    Example:
        >>> import engine
        >>> folder = engine.phantom("new_phantoms", cases=2, shape=(8, 32, 32))
        >>> sorted(path.name for path in folder.iterdir())
        ['case_00000', 'case_00001']
    """
    write_phantoms(Path(folder), cases, shape, seed)
    return Path(folder)
