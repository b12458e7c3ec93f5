"""Array axes: arrays that were saved without a geometry, and axes that the user names.

`nib.Nifti1Image(array, np.eye(4))` says that the first axis of the array is X, whatever it is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volumes.nifti.orientation import Affine, orientation

_NAMES = "ZYX"
_DIRECTION = {"Z": 2, "Y": 1, "X": 0}  # rows of an affine
_MATRICES = (512, 768, 1024)  # pixels of a side, as scanners reconstruct them
_SAME = 1e-3


def names(affine: Affine) -> str:
    """The names of the stored axes, in the order of the file, by their header."""
    return "".join(_NAMES[int(axis)] for axis in orientation(affine)[:, 0])


def renamed(affine: Affine, axes: str | None) -> Affine:
    """The affine with other names of the stored axes.

    Directions of a header that confuses the axes say nothing. The first voxel becomes the most
    superior, anterior and right one, the canonical order. Each stored axis keeps its spacing,
    unless only the spacing of the names gives square pixels.

    Args:
        affine: (4, 4), stored index -> RAS millimetres.
        axes: such as "ZYX", in the order of the file; None, or the header's own, changes nothing.

    Example:
        >>> renamed(np.diag([5.0, 0.7, 0.7, 1.0]), "ZYX")[:3, :3].tolist()
        [[0.0, 0.0, -0.7], [0.0, -0.7, 0.0], [-5.0, 0.0, 0.0]]
    """
    own = names(affine)
    if axes is None or axes == own:
        return affine
    stored = _spacing(affine)
    named = np.array([stored[own.index(name)] for name in axes])
    y, x = axes.index("Y"), axes.index("X")
    spacing = named if _same(named[y], named[x]) and not _same(stored[y], stored[x]) else stored
    made = np.zeros((4, 4))
    for column, name in enumerate(axes):
        made[_DIRECTION[name], column] = -spacing[column]
    made[:, 3] = affine[:, 3]
    return made


def doubts(affine: Affine, shape: tuple[int, ...], axes: str | None, *, placed: bool) -> list[str]:
    """Messages about a geometry that looks made up.

    Args:
        affine: (4, 4), stored index -> RAS millimetres, by the header.
        shape: of the stored array, three axes.
        axes: as named by the user, if at all.
        placed: whether the header gives an orientation and an origin.
    """
    own, spacing = names(affine), _spacing(affine)
    found = []
    if not placed and np.allclose(spacing, 1, atol=1e-6, rtol=0):
        found.append("has no geometry: its spacing is unknown, and 1 mm is assumed")
    if axes is not None:
        if placed and axes != own:
            found.append(f"is read with the axes {axes}, although its header says {own}")
    elif likely := _likely(own, spacing, shape, placed=placed):
        found.append(f"looks like an array of axes {likely}, although its header says {own}: its "
                     f"square sides are not X and Y. --axes {likely} reads it so")  # fmt: skip
    elif found:
        found.append(f"has no geometry: its axes are taken for {own}. --axes names others")
    return found


def is_placed(affine: Affine, *, declared: bool) -> bool:
    """Whether a header gives a rotation or an origin, which nobody writes by chance.

    Args:
        affine: (4, 4), stored index -> RAS.
        declared: whether it is from a sform or qform.
    """
    straight = (np.abs(affine[:3, :3]) > 1e-6).sum() == 3
    return declared and not (straight and (np.abs(affine[:3, 3]) < 1e-6).all())


def _likely(
    own: str, spacing: npt.NDArray[np.float64], shape: tuple[int, ...], *, placed: bool
) -> str | None:
    """The names of the axes if two other sides than Y and X are equal; else None."""
    y, x = own.index("Y"), own.index("X")
    if shape[y] == shape[x]:
        return None
    for z in (y, x):
        one, other = (axis for axis in range(3) if axis != z)
        if shape[one] != shape[other]:
            continue
        square = _same(spacing[one], spacing[other])
        if placed:  # true sagittal slices have square sides, too, but also square pixels
            wrong = not square and shape[one] in _MATRICES
        else:
            wrong = square or _same(spacing[y], spacing[x])
        if wrong:
            return {0: "ZYX", 1: "YZX", 2: "XYZ"}[z]
    return None


def _spacing(affine: Affine) -> npt.NDArray[np.float64]:
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def _same(one: float, other: float) -> bool:
    return bool(abs(one - other) <= _SAME * max(one, other))
