"""Outputs: where what is made of a scan goes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from engine.errors import BadUsage, CannotWrite
from volumes.dataset import case_name
from volumes.storage.atomic import cannot_write, make_folder

# What is written is NIfTI in one file; a folder of such a name would be a surprise.
_OTHER_FILE = re.compile(
    r"\.(hdr|img|mha|mhd|mgz|mnc|nrrd|dcm|dicom|npy|npz|h5|hdf5|png|jpe?g|tiff?|json|csv|txt|md|pdf"
    r"|gz|bz2|xz|zst|zip|7z|tar)$",
    re.IGNORECASE,
)


def split_name(path: Path) -> tuple[str, str]:
    """The name of a scan before its `.nii` or `.nii.gz`, and the ending of what is made of it."""
    for ending in (".nii.gz", ".nii"):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)], path.name[-len(ending) :]
    for ending in (".hdr", ".img", ".hdr.gz", ".img.gz"):  # of a pair one file is made
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)], ".nii.gz"
    return path.name, ".nii.gz"


def output_paths(inputs: Sequence[Path], output: Path | None, suffix: str) -> list[Path]:
    """The output of every input: beside it, or where `-o` says.

    Args:
        inputs: scans.
        output: a file for one input (it ends in .nii or .nii.gz), else a folder.
        suffix: put behind the input's name; in a folder, scans called imaging.nii.gz as in KiTS19
            are named by their case.

    Raises:
        BadUsage: where one file is asked for several inputs, two outputs would be one, or a file
            of another format is meant.
        CannotWrite: where an output would be an input.
    """
    if output is not None:
        refuse_other_file(output)
    if output is not None and is_scan_name(output):
        if len(inputs) > 1:
            cause = f"is one file for {len(inputs)} inputs"
            raise BadUsage(output, cause, "Name a folder by -o")
        paths = [output]
    elif output is not None:
        paths = [output / f"{case_name(p)}{suffix}{split_name(p)[1]}" for p in inputs]
    else:
        paths = [p.with_name(split_name(p)[0] + suffix + split_name(p)[1]) for p in inputs]
    refuse_twice(paths)
    refuse_inputs(paths, inputs)
    return paths


def refuse_other_file(output: Path) -> None:
    """Refuses the name of a file of another format, which would become that of a folder.

    Raises:
        BadUsage: where no folder of that name is there.
    """
    if _OTHER_FILE.search(output.name) and not is_scan_name(output) and not os.path.isdir(output):
        cause = "is neither the name of a folder nor that of a .nii or .nii.gz file"
        raise BadUsage(output, cause, "Choose another -o")


def refuse_twice(outputs: Sequence[Path]) -> None:
    """Refuses outputs of which one would replace another.

    Raises:
        BadUsage: naming it.
    """
    for place, path in enumerate(outputs):
        if path in outputs[:place]:
            raise BadUsage(path, "would be written twice", "Rename the inputs, or change -o")


def refuse_inputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuses to replace a scan, by whatever name or link it is called.

    Raises:
        CannotWrite: where an output would be an input.
    """
    for path in outputs:
        if _is_there(path) and any(
            path.exists() and p.exists() and path.samefile(p) for p in inputs
        ):
            raise CannotWrite(path, "is an input", "A scan is never replaced: choose another -o")


def refuse_existing(outputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuses to write where something lies already, before any work is done.

    Raises:
        CannotWrite: naming the first that exists.
    """
    for path in outputs:
        there = _is_there(path)
        if there and path.is_dir():
            raise CannotWrite(path, "is a folder", "Choose another -o")
        if there and not overwrite:
            raise CannotWrite(path, "exists already", "Remove it, or ask for --overwrite")


def _is_there(path: Path) -> bool:
    """Whether anything lies there, a link that leads nowhere included.

    Raises:
        CannotWrite: where nothing can, as where the name is too long.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise cannot_write(path, error) from error
    return True


def make_place(output: Path | None, outputs: Sequence[Path]) -> None:
    """Makes the folder that `-o` names; the folders of all other outputs must be there.

    Raises:
        CannotWrite: where it cannot be made, or another folder is missing.
    """
    if output is not None and not is_scan_name(output):
        make_folder(output)
    for path in outputs:
        if not path.parent.is_dir():
            raise CannotWrite(path, "lies in a folder that is not there", "Make the folder first")


def is_scan_name(path: Path) -> bool:
    """Whether a path is meant as a scan's, not as a folder's."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def beside(path: Path, suffix: str) -> Path:
    """`a/vol_denoised.nii.gz` -> `a/vol<suffix>.nii.gz`."""
    stem, ending = split_name(path)
    return path.with_name(stem.removesuffix("_denoised") + suffix + ending)


def sidecar_path(path: Path) -> Path:
    """`a/vol_denoised.nii.gz` -> `a/vol_denoised.json`."""
    return path.with_name(split_name(path)[0] + ".json")
