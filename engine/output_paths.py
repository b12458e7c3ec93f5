"""Output paths: the files to which results are written."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from engine.errors import BadUsage, CannotWrite
from volumes.dataset import case_name
from volumes.storage.atomic import cannot_write, make_folder

# Outputs are single NIfTI files. A folder with such a name would be a surprise.
_OTHER_FILE = re.compile(
    r"\.(hdr|img|mha|mhd|mgz|mnc|nrrd|dcm|dicom|npy|npz|h5|hdf5|mat|keras|onnx|pb|pt|pth|pkl|ckpt"
    r"|png|jpe?g|gif|bmp|webp|svg|e?ps|tiff?|json|ya?ml|toml|xml|csv|tsv|xlsx?|ods|txt|log|md|rst"
    r"|tex|html?|pdf|docx?|odt|rtf|pptx?|py|ipynb|gz|tgz|bz2|xz|zst|zip|7z|tar)\Z",
    re.IGNORECASE,
)


def named(path: Path) -> Path:
    """The path, absolute if it has no name of its own, which outputs need: "." and ".."."""
    return path if path.name not in ("", "..") else Path(os.path.abspath(path))


def split_name(path: Path) -> tuple[str, str]:
    """The name of a scan without its ending, and the ending of its outputs.

    Example:
        >>> split_name(Path("a/vol.nii.gz")), split_name(Path("a/vol.hdr"))
        (('vol', '.nii.gz'), ('vol', '.nii.gz'))
    """
    for ending in (".nii.gz", ".nii"):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)], path.name[-len(ending) :]
    for ending in (".hdr", ".img", ".hdr.gz", ".img.gz", ".dcm"):  # the output is one file
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)], ".nii.gz"
    return path.name, ".nii.gz"


def output_paths(inputs: Sequence[Path], output: Path | None, suffix: str) -> list[Path]:
    """The output path of every input.

    Args:
        inputs: scans.
        output: the value of `-o`: a .nii or .nii.gz file for one input, else a folder. None writes
            each output beside its input.
        suffix: appended to the name of the input. In a folder, scans named imaging.nii.gz, as in
            KiTS19, get the name of their case.

    Raises:
        BadUsage: if there is one file for several inputs, two outputs have the same path, or
            `output` has the ending of another format.
        CannotWrite: if an output is an input.
    """
    if output is not None:
        refuse_other_file(output)
    if output is not None and is_scan_name(output):
        if len(inputs) > 1:
            cause = f"is one file for {len(inputs)} inputs"
            raise BadUsage(output, cause, "Name a folder with -o")
        paths = [output]
    elif output is not None:
        paths = [output / f"{case_name(p)}{suffix}{split_name(p)[1]}" for p in inputs]
    else:
        paths = [p.with_name(split_name(p)[0] + suffix + split_name(p)[1]) for p in inputs]
    refuse_twice(paths)
    refuse_inputs(paths, inputs)
    return paths


def refuse_other_file(output: Path) -> None:
    """Refuses an output with the ending of another format, unless it is an existing folder.

    Raises:
        BadUsage: naming it.
    """
    if is_other_file(output) and not is_scan_name(output) and not os.path.isdir(output):
        cause = "is neither the name of a folder nor that of a .nii or .nii.gz file"
        raise BadUsage(output, cause, "Choose another -o")


def is_other_file(path: Path) -> bool:
    """Whether a path has the ending of a file, not that of a scan alone."""
    return bool(_OTHER_FILE.search(path.name))


def refuse_file_name(folder: Path, option: str) -> None:
    """Refuses the name of a file where a folder is made, unless it is an existing folder.

    Args:
        folder: to be made.
        option: that names it, for the remedy.

    Raises:
        BadUsage: naming it.
    """
    file = _OTHER_FILE.search(folder.name) or is_scan_name(folder)
    if file and not os.path.isdir(folder):
        cause = "is the name of a file, and a folder is made here"
        raise BadUsage(folder, cause, f"Name a folder, such as {option} {_stem(folder)}")


def _stem(path: Path) -> Path:
    """The path without the ending of a file: `report.html` -> `report`."""
    if is_scan_name(path):
        return path.with_name(split_name(path)[0])
    return path.with_name(_OTHER_FILE.sub("", path.name) or "output")


def refuse_twice(outputs: Sequence[Path]) -> None:
    """Refuses outputs with the same path.

    Raises:
        BadUsage: naming it.
    """
    seen: set[str] = set()
    for path in outputs:
        if str(path) in seen:
            raise BadUsage(path, "would be written twice", "Rename the inputs, or change -o")
        seen.add(str(path))


def refuse_inputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuses outputs that are inputs, also through a link.

    Raises:
        CannotWrite: naming it.
    """
    files = {_file(path) for path in inputs} - {None}
    for path in outputs:
        if exists(path) and _file(path) in files:
            raise CannotWrite(path, "is an input", "A scan is never replaced: choose another -o")


def _file(path: Path) -> tuple[int, int] | None:
    """What identifies an existing file, whatever its name."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def refuse_existing(outputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuses outputs that exist, before any work is done.

    Raises:
        CannotWrite: naming the first one.
    """
    for path in outputs:
        there = exists(path)
        if there and path.is_dir():
            raise CannotWrite(path, "is a folder", "Choose another -o")
        if there and not overwrite:
            raise CannotWrite(path, "exists already", "Remove it, or ask for --overwrite")


def exists(path: Path) -> bool:
    """Whether a path exists, including a broken link.

    Raises:
        CannotWrite: if the path cannot exist, for example because its name is too long.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise cannot_write(path, error) from error
    return True


def make_place(output: Path | None, outputs: Sequence[Path]) -> None:
    """Makes the folder of `-o`. The folders of all other outputs must exist.

    Raises:
        CannotWrite: if it cannot be made, or another folder is missing.
    """
    if output is not None and not is_scan_name(output):
        make_folder(output)
    for path in outputs:
        if not path.parent.is_dir():
            raise CannotWrite(path, "is in a folder that does not exist", "Make the folder first")


def is_scan_name(path: Path) -> bool:
    """Whether a path has the ending of a scan, and is not a folder."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def beside(path: Path, suffix: str) -> Path:
    """`a/vol_denoised.nii.gz` -> `a/vol<suffix>.nii.gz`."""
    stem, ending = split_name(path)
    return path.with_name(stem.removesuffix("_denoised") + suffix + ending)


def sidecar_path(path: Path) -> Path:
    """`a/vol_denoised.nii.gz` -> `a/vol_denoised.json`."""
    return path.with_name(split_name(path)[0] + ".json")
