"""Scan files: the scans that `engine denoise` is given, as files or as folders of cases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from engine.denoising import sidecar
from engine.errors import BadInput
from engine.output_paths import sidecar_path
from engine.terminal import Terminal
from volumes.dataset import find_cases
from volumes.dicom import holds_slices
from volumes.errors import listed
from volumes.nifti.read_options import ReadOptions
from volumes.storage import json_files


def scan_files(paths: Sequence[Path], reading: ReadOptions, terminal: Terminal) -> tuple[Path, ...]:
    """The scans of a command, in its order. Those of a folder are sorted by case.

    Outputs of the engine and masks are no cases of a folder. A file is taken as it is.

    Args:
        paths: files, folders of DICOM series, or folders of cases as in
            `volumes.dataset.find_cases`.
        reading: options for reading scans.
        terminal: warns about what is left out.

    Raises:
        BadInput: if a folder has no scan.
    """
    return tuple(
        scan
        for path in paths
        for scan in (_of_folder(path, reading, terminal) if _is_folder(path) else [path])
    )


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder of cases. The folder of a DICOM series is one scan."""
    return os.path.isdir(path) and not holds_slices(path)


def _of_folder(folder: Path, reading: ReadOptions, terminal: Terminal) -> list[Path]:
    remedy = "Name another folder, or the files themselves"
    try:
        found = [case.path for case in find_cases(folder, trust=reading, listener=terminal)]
    except OSError as error:
        cause = f"cannot be read: {error.strerror or error}"
        raise BadInput(folder, cause, "Check your permissions") from error
    except BadInput as refusal:
        if "--data" not in refusal.remedy:
            raise
        raise BadInput(folder, f"is a folder that {refusal.cause}", remedy) from refusal
    if any(path.suffix.lower() == ".png" for path in found):
        raise BadInput(folder, "is a folder that holds photographs, and no NIfTI scan", remedy)
    made = [path for path in found if _is_made_by_the_engine(path)]
    if found == made:
        cause = "is a folder that holds no scan but those that the engine wrote"
        raise BadInput(folder, cause, remedy)
    if made:
        named = listed([str(path.relative_to(folder)) for path in made])
        terminal.warn(f"{folder}: scans that the engine wrote are ignored: {named}")
    return [path for path in found if path not in made]


def _is_made_by_the_engine(path: Path) -> bool:
    """Whether a case is a denoised scan, or the clean reference beside simulated noise."""
    try:
        said = json_files.read_json(sidecar_path(path))
    except (OSError, ValueError):
        return False
    return sidecar.is_of(path) or (isinstance(said, dict) and "reference" in said)
