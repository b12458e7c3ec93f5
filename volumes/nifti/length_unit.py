"""Unit of length: the unit in which a header gives its spacing, and scans possible in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from volumes.errors import BadInput

_MM = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}  # codes of the NIfTI standard; 0 is unknown
_NAMES = {1: "metres", 2: "millimetres", 3: "micrometres"}
_LENGTH_BITS = 0b111  # the other bits of xyzt_units are the unit of time
_VOXEL_MM = (0.01, 100.0)  # of micro-CT; of the thickest slices
_LONGEST_MM = 4000.0  # of a whole body, with room to spare
_REMEDY = "Correct its voxel sizes or its unit (xyzt_units)"


def millimetres(
    path: Path, code: int, spacing: Sequence[float], shape: Sequence[int]
) -> tuple[float, list[str]]:
    """The millimetres of a header's unit of length, and messages about oddities.

    A scan is possible if its voxels measure 0.01 to 100 mm and none of its sides more than 4 m. It
    is read in the header's unit; an unknown unit counts as millimetres. If it is impossible in the
    header's unit but possible in millimetres, it is read in millimetres, with a message. Sides that
    are too long in both are left to `refuse_too_long`.

    Args:
        path: of the file, for messages.
        code: the header's xyzt_units.
        spacing: of the stored axes, in the header's unit.
        shape: of the stored axes.

    Raises:
        BadInput: if its voxels are impossible in both units.

    Example:
        >>> millimetres(Path("scan.nii"), 1, [0.0007, 0.0007, 0.005], [512, 512, 40])
        (1000.0, [])
    """
    unit = code & _LENGTH_BITS
    found = []
    if unit not in _MM:
        found.append(f"has the unknown unit of length {unit}: millimetres are assumed")
    scale = _MM.get(unit, 1.0)
    if _is_possible(spacing, shape, scale):
        return scale, found
    voxels = f"voxels of {_listed(spacing, scale)} mm"
    if _is_possible(spacing, shape, 1.0):
        found.append(f"would have {voxels} in {_NAMES[unit]}, its unit: millimetres are assumed")
        return 1.0, found
    if _is_possible(spacing, (), scale):
        return scale, found
    others = [name for other, name in _NAMES.items() if _is_possible(spacing, shape, _MM[other])]
    numbers = f"; its numbers look like {others[0]}" if others else ""
    raise BadInput(path, f"has {voxels}, as no CT has", f"{_REMEDY}{numbers}")


def refuse_too_long(path: Path, spacing_mm: Sequence[float], shape: Sequence[int]) -> None:
    """Refuses a scan with a side of more than 4 m.

    Raises:
        BadInput: with its longest side.
    """
    longest_mm = max(step * n for step, n in zip(spacing_mm, shape, strict=True))
    if longest_mm > _LONGEST_MM:
        cause = (
            f"has voxels of {_listed(spacing_mm, 1.0)} mm, and a side of {longest_mm / 1e3:.4g} m"
        )
        raise BadInput(path, f"{cause}, as no CT has", _REMEDY)


def _is_possible(spacing: Sequence[float], shape: Sequence[int], scale: float) -> bool:
    low, high = _VOXEL_MM
    slack = 1e-6  # of single precision
    return all(low * (1 - slack) <= step * scale <= high * (1 + slack) for step in spacing) and all(
        step * scale * n <= _LONGEST_MM for step, n in zip(spacing, shape, strict=False)
    )


def _listed(spacing: Sequence[float], scale: float) -> str:
    return " x ".join(f"{step * scale:.4g}" for step in spacing)
