"""Stack: the slices of a series in order, and where their voxels are in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from volumes.dicom.slices import Slice
from volumes.errors import BadInput

_SAME_DIRECTION = 1e-3  # of a unit vector
_UNEVEN, _ROUNDED_MM = 0.05, 0.02  # share of the distance; positions are written with two decimals
_LEAST_MM = 1e-3
_TO_RAS = np.array([-1.0, -1.0, 1.0])  # DICOM counts to the left and to the back
_INSTEAD = "Convert it with dcm2niix"


def in_order(folder: Path, slices: Sequence[Slice]) -> list[Slice]:
    """The slices along their normal.

    Raises:
        BadInput: if they differ in shape, spacing, datatype or direction; if two have one place, or
            one is missing.
    """
    first = slices[0]
    for other in slices:
        same = (other.shape, other.dtype, other.bits) == (first.shape, first.dtype, first.bits)
        if not same or not np.allclose(other.spacing_mm, first.spacing_mm, atol=_LEAST_MM):
            cause = f"has slices of other shapes, pixels or datatypes, such as {other.path.name}"
            raise BadInput(folder, cause, "Put the slices of one scan into a folder of their own")
        turned = [other.row - first.row, other.column - first.column]
        if np.abs(turned).max() > _SAME_DIRECTION:
            cause = f"has slices of other directions, such as {other.path.name}"
            raise BadInput(folder, cause, "Put the slices of one scan into a folder of their own")
    normal = np.cross(first.row, first.column)
    ordered = sorted(slices, key=lambda each: float(each.position_mm @ normal))
    gaps = np.diff([each.position_mm @ normal for each in ordered])
    for (one, other), gap in zip(pairwise(ordered), gaps, strict=True):
        if gap < _LEAST_MM:
            cause = f"has two slices in one place, {one.path.name} and {other.path.name}"
            remedy = "Put the slices of one scan into a folder of their own"
            raise BadInput(folder, cause, remedy)
    if len(gaps):
        usual = float(np.median(gaps))
        if np.abs(gaps - usual).max() > max(_ROUNDED_MM, _UNEVEN * usual):
            after = ordered[int(np.abs(gaps - usual).argmax())].path.name
            cause = (
                f"has uneven distances of slices, {gaps.min():.3g} to {gaps.max():.3g} mm: "
                f"slices are missing, or were added, after {after}"
            )
            raise BadInput(folder, cause, "Export the series again with all its slices")
    return ordered


def affine_of(folder: Path, ordered: Sequence[Slice]) -> npt.NDArray[np.float64]:
    """(4, 4): index of the column, the row and the slice -> RAS millimetres.

    Raises:
        BadInput: if the slices are sheared, as by a tilted gantry, or one slice tells no thickness.
    """
    first, last = ordered[0], ordered[-1]
    normal = np.cross(first.row, first.column)
    if len(ordered) == 1:
        if first.thickness_mm is None:
            raise BadInput(folder, "is one slice of unknown thickness", _INSTEAD)
        step = normal * first.thickness_mm
    else:
        step = (last.position_mm - first.position_mm) / (len(ordered) - 1)
        along = float(step @ normal)
        aside = float(np.linalg.norm(step - along * normal))
        if aside * (len(ordered) - 1) > min(first.spacing_mm) / 2:
            degrees = np.degrees(np.arctan2(aside, along))
            cause = f"was scanned with the gantry tilted by {degrees:.1f} degrees"
            remedy = "Resample it to straight slices first, as dcm2niix does"
            raise BadInput(folder, cause, remedy)
    down, right = first.spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = _TO_RAS * first.row * right
    affine[:3, 1] = _TO_RAS * first.column * down
    affine[:3, 2] = _TO_RAS * step
    affine[:3, 3] = _TO_RAS * first.position_mm
    return affine
