"""Output of a denoised scan: scan, residual and sidecar, all of them or none."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from engine.denoising.denoise import Denoised
from engine.output_paths import beside, sidecar_path
from volumes import nifti
from volumes.storage.atomic import whole_file
from volumes.storage.digest import sha256


def write(denoised: Denoised, path: Path, *, residual: bool, overwrite: bool) -> list[Path]:
    """Writes the scan, the residual if requested, and last the sidecar with their hashes.

    An old sidecar of a replaced scan does not match the hash of the new scan.

    Returns:
        The paths of the files.

    Raises:
        CannotWrite: if a file exists or cannot be written. Then no file is left behind.
    """
    about, scan, written = dict(denoised.about), denoised.scan, list[Path]()
    try:
        nifti.write_like(scan, denoised.after, path, overwrite=overwrite)
        written.append(path)
        about["output_sha256"] = sha256(path)
        if residual:
            place = beside(path, "_residual")
            nifti.write_derived(scan, denoised.residual(), place, overwrite=overwrite)
            written.append(place)
            about["residual_sha256"] = sha256(place)
        with whole_file(sidecar_path(path), overwrite=overwrite) as file:
            file.write((json.dumps(about, indent=2) + "\n").encode())
    except BaseException:
        for place in written:
            with suppress(OSError):  # the first error is raised, not this one
                place.unlink()
        raise
    return [*written, sidecar_path(path)]
