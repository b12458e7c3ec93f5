"""Orientation: the stored axes of a scan in the patient, and the canonical order of axes."""

from __future__ import annotations

import math
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from volumes.errors import BadInput
from volumes.nifti.length_unit import millimetres

Affine = npt.NDArray[np.float64]

# Positive axes point to inferior, posterior, left, slices first, as in KiTS19.
CANONICAL = ("I", "P", "L")

_CODES = range(6)  # valid orientation codes of the NIfTI standard
_SAME_PLACE = 0.1  # of a voxel: rounding of headers on export makes smaller differences
_SAME_SIZE = 0.01  # pixdim and sform
_SHEARED_DEGREES = 0.5
_ROUNDING = 1e-5  # tolerance of a quaternion's squared norm
_EXPORT = "Export it again"


def orientation(affine: Affine) -> npt.NDArray[np.float64]:
    """Nibabel's orientation transform from the stored to the canonical axes."""
    transform = ornt_transform(io_orientation(affine), axcodes2ornt(CANONICAL))
    return np.asarray(transform, np.float64)


def axes(affine: Affine) -> str:
    """The directions of the positive stored axes, such as "IPL"."""
    return "".join(nib.aff2axcodes(affine))


def spacing_mm(affine: Affine) -> tuple[float, float, float]:
    """(Z, Y, X) spacing in canonical order.

    Y and X are the lengths of the sides of a pixel. Z is the distance between the planes of the
    slices: with a tilted gantry it is the table's step times the cosine of the tilt.

    Args:
        affine: (4, 4), stored index -> RAS millimetres.

    Example:
        >>> tilted = np.diag([0.8, 0.8, 5.0, 1.0])
        >>> tilted[:3, 1] = 0.0, 0.4 * 3**0.5, 0.4
        >>> [round(step, 2) for step in spacing_mm(tilted)]
        [4.33, 0.8, 0.8]
    """
    columns = affine[:3, :3][:, np.argsort(orientation(affine)[:, 0])]
    z, y, x = (float(step) for step in np.linalg.norm(columns, axis=0))
    if shear_degrees(affine) > _SHEARED_DEGREES:
        pixel = np.linalg.norm(np.cross(columns[:, 1], columns[:, 2]))
        z = float(abs(np.linalg.det(columns)) / pixel)
    return z, y, x


def shear_degrees(affine: Affine) -> float:
    """The largest deviation of two stored axes from a right angle.

    Args:
        affine: (4, 4), stored index -> RAS millimetres.
    """
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(unit.T @ unit)[np.triu_indices(3, 1)]
    return float(np.degrees(np.arcsin(min(float(cosines.max()), 1.0))))


def canonical_affine(affine: Affine, shape: tuple[int, ...]) -> Affine:
    """(4, 4), index in canonical order -> RAS millimetres.

    Args:
        affine: (4, 4), stored index -> RAS millimetres.
        shape: of the stored array, three axes.
    """
    return np.asarray(affine @ inv_ornt_aff(orientation(affine), shape))


def read_affine(path: Path, block: Any) -> tuple[Affine, list[str]]:
    """The affine of a header by the rule of the NIfTI standard, and messages about oddities.

    The order of preference is sform, quaternion (qform), voxel sizes alone. Its lengths are
    converted from the header's unit to millimetres.

    Args:
        path: of the file, for messages.
        block: nibabel's header.

    Raises:
        BadInput: if the affine cannot be used.
    """
    if block["pixdim"][0] not in (-1, 1):  # NIfTI standard: other values mean 1
        block["pixdim"][0] = 1
    codes = {form: int(block[f"{form}_code"]) for form in ("qform", "sform")}
    found = [f"has the unknown {form}_code {code}" for form, code in codes.items()
             if code not in _CODES]  # fmt: skip
    if int(block["dim"][0]) == 2 and not block["pixdim"][3] > 0:  # a slice needs no thickness
        along = np.linalg.norm(block.get_sform()[:3, 2])
        block["pixdim"][3] = along if codes["sform"] > 0 and along > 0 else 1
    sizes = [float(size) for size in block["pixdim"][1:4]]
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        if codes["sform"] <= 0:
            cause = f"has voxels of {' x '.join(f'{size:g}' for size in sizes)} mm"
            raise BadInput(path, cause, _EXPORT)
        found.append("has impossible voxel sizes: those of its sform are used")
        quaternion = None
    else:
        quaternion = _quaternion(block)
    if codes["sform"] > 0:
        affine = np.asarray(block.get_sform(), np.float64)
    elif codes["qform"] > 0:
        if quaternion is None:
            raise BadInput(path, "has an orientation whose quaternion is impossible", _EXPORT)
        affine = quaternion
    else:
        affine = np.asarray(block.get_base_affine(), np.float64)
        found.append("declares no orientation: its axes are assumed to point left, anterior, up")
    _refuse_singular(path, affine)
    spacing = [float(size) for size in np.linalg.norm(affine[:3, :3], axis=0)]
    shape = [int(n) for n in block["dim"][1 : 1 + min(int(block["dim"][0]), 3)]]
    unit_mm, odd = millimetres(path, int(block["xyzt_units"]), spacing, shape)
    scale = np.diag([unit_mm, unit_mm, unit_mm, 1.0])
    affine_mm = scale @ affine
    if codes["sform"] > 0:
        other_size = _other_size(affine_mm, np.array(sizes) * unit_mm, len(shape))
        odd += other_size
        if codes["qform"] > 0 and not other_size:  # the qform has the size of pixdim
            odd += _difference(affine, quaternion, block, unit_mm)
    return affine_mm, [*found, *odd, *_shear(affine_mm)]


def _other_size(affine_mm: Affine, pixdim_mm: npt.NDArray[np.float64], axes: int) -> list[str]:
    """A message if pixdim is not the size of the sform's voxels, along its axes or across them."""
    steps = np.linalg.norm(affine_mm[:3, :3], axis=0)
    across = 1 / np.linalg.norm(np.linalg.inv(affine_mm[:3, :3]), axis=1)
    same = [np.isclose(pixdim_mm, size, rtol=_SAME_SIZE, atol=0) for size in (steps, across)]
    known = np.isfinite(pixdim_mm).all() and (pixdim_mm > 0).all()
    if (same[0] | same[1])[:axes].all() or not known:
        return []
    said, used = (" x ".join(f"{mm:.3g}" for mm in size) for size in (pixdim_mm, steps))
    return [f"has voxels of {said} mm by its pixdim, but of {used} mm by its sform: the sform is "
            "used, as the NIfTI standard says"]  # fmt: skip


def _shear(affine_mm: Affine) -> list[str]:
    degrees = shear_degrees(affine_mm)
    if degrees <= _SHEARED_DEGREES:
        return []
    slices = affine_mm[:3, int(np.argmin(orientation(affine_mm)[:, 0]))]
    step_mm, apart_mm = float(np.linalg.norm(slices)), spacing_mm(affine_mm)[0]
    apart = f"its slices are {apart_mm:.3g} mm apart, not {step_mm:.3g} mm"
    tilted = f", as of a tilted gantry: {apart}" if apart_mm < (1 - 1e-4) * step_mm else ""
    return [f"has axes that are sheared by {degrees:.2g} degrees{tilted}"]


def _quaternion(block: Any) -> Affine | None:
    """The affine of the qform; None if the quaternion is invalid."""
    square = sum(q * q for q in (float(block[f"quatern_{axis}"]) for axis in "bcd"))
    if not square <= 1 + _ROUNDING:
        return None
    if square > 1:  # by rounding: a rotation of 180 degrees
        block.quaternion_threshold = 2 * _ROUNDING
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(block.get_qform(), np.float64)


def _difference(affine: Affine, quaternion: Affine | None, block: Any, unit_mm: float) -> list[str]:
    if quaternion is None:
        return ["has an impossible quaternion: its sform is used"]
    size = np.maximum(np.array(block["dim"][1:4], float) - 1, 1)
    corners = np.array([[*corner, 1] for corner in product(*((0, n) for n in size))])
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.linalg.norm((affine - quaternion)[:3] @ corners.T, axis=0).max()
        if apart <= _SAME_PLACE * np.linalg.norm(affine[:3, :3], axis=0).min():
            return []
    return [f"has a qform up to {unit_mm * apart:.3g} mm away from its sform: the sform is used"]


def _refuse_singular(path: Path, affine: Affine) -> None:
    singular = not np.isfinite(affine).all()
    if not singular:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            spacing = np.linalg.norm(affine[:3, :3], axis=0)
            # The volume of a voxel over the product of its edges is 0 if the axes are coplanar.
            singular = not abs(np.linalg.det(affine[:3, :3] / spacing)) > 1e-6
    if singular or not np.isfinite(io_orientation(affine)).all():
        raise BadInput(path, "has an affine that cannot be inverted", _EXPORT)
