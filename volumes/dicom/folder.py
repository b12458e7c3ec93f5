"""DICOM files of a folder, known by their first bytes. No DICOM library is needed."""

from __future__ import annotations

import os
from pathlib import Path

from volumes.errors import BadInput
from volumes.storage.read_errors import unreadable

_MARK_AT, _MARK = 128, b"DICM"
_INDEX = "DICOMDIR"
_DEEP = 4  # folders below the first: study, series, and two more


def is_slice(path: Path) -> bool:
    """Whether a path is a DICOM file, other than the index of a medium."""
    if path.name.upper() == _INDEX or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(_MARK_AT + len(_MARK))[_MARK_AT:] == _MARK
    except OSError:
        return False


def holds_slices(folder: Path) -> bool:
    """Whether a folder itself holds a DICOM file."""
    return os.path.isdir(folder) and any(map(is_slice, _visible(folder)))


def series_below(folder: Path, depth: int = _DEEP) -> Path | None:
    """The first folder with DICOM files, the folder itself or one below it."""
    if holds_slices(folder):
        return folder
    inner = (path for path in _visible(folder) if depth and path.is_dir())
    return next((found for path in inner if (found := series_below(path, depth - 1))), None)


def slices_and_others(folder: Path) -> tuple[list[Path], list[Path]]:
    """The DICOM files of a folder, and its other files, sorted. Hidden files are left out.

    Raises:
        BadInput: if the folder cannot be listed.
    """
    try:
        files = [path for path in _visible(folder) if path.is_file()]
    except OSError as error:
        raise unreadable(folder, error) from error
    slices = [path for path in files if is_slice(path)]
    others = [path for path in files if path not in slices and path.name.upper() != _INDEX]
    return slices, others


def refuse_below(folder: Path) -> None:
    """Refuses a folder of DICOM files where NIfTI is needed.

    Raises:
        BadInput: naming the program that converts it.
    """
    if (found := series_below(folder)) is not None:
        cause = f"holds DICOM files, such as those in {found}, and no NIfTI files"
        raise BadInput(folder, cause, "Convert each series with dcm2niix")


def _visible(folder: Path) -> list[Path]:
    return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))
