"""Output of a denoised scan: scan, residual and sidecar, all of them or none."""

from __future__ import annotations

import json
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from engine.denoising.denoise import Denoised
from engine.output_paths import beside, sidecar_path
from volumes import nifti
from volumes.storage.atomic import whole_file
from volumes.storage.digest import sha256


def write(denoised: Denoised, path: Path, *, residual: bool, overwrite: bool) -> list[Path]:
    """Writes the scan, the residual if requested, and the sidecar with their hashes.

    All files are complete on the disk before the first of them gets its name. The scan gets it
    last: a process that is killed leaves no scan without a sidecar that says what it is.

    Returns:
        The paths of the files.

    Raises:
        CannotWrite: if a file exists or cannot be written. Then no file is left behind.
    """
    about, scan, place = dict(denoised.about), denoised.scan, beside(path, "_residual")
    written: list[Path] = []
    try:
        with nifti.writing_like(scan, denoised.after, path, overwrite=overwrite) as output:
            about["output_sha256"] = _sha256(output)
            with (
                nifti.writing_derived(scan, denoised.residual(), place, overwrite=overwrite)
                if residual
                else nullcontext()
            ) as removed:
                if removed is not None:
                    about["residual_sha256"] = _sha256(removed)
                with whole_file(sidecar_path(path), overwrite=overwrite) as file:
                    file.write((json.dumps(about, indent=2) + "\n").encode())
                written.append(sidecar_path(path))
            if removed is not None:
                written.append(place)
    except BaseException:
        if _is(path, about.get("output_sha256")):  # it has its name, but its folder was not synced
            written.append(path)
        for each in written:
            with suppress(OSError):  # the first error is raised, not this one
                each.unlink()
        raise
    return [path, *reversed(written)]


def _sha256(file: BinaryIO) -> str:
    return sha256(Path(file.name))


def _is(path: Path, hashed: str | None) -> bool:
    try:
        return hashed is not None and sha256(path) == hashed
    except OSError:
        return False
