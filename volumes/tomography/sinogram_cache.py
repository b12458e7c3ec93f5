"""Sinogram cache: the noise-free sinograms of a volume's slices, on disk.

The projection of a 512 x 512 slice with 900 views takes two seconds on a CPU, reading it a few
milliseconds. Each sinogram is an .npz file in the store, computed on first use. Its name contains
the SHA-256 of the scan, a hash of the scanner and the index of the slice. Its CRC-32 is verified
whenever it is read; a damaged file is computed again. If the cache is read-only, missing sinograms
are computed on every use.

A ray takes 4 bytes. For 900 views of 729 bins this is 2.6 MB per slice and 105 GB for 200 volumes
of 200 slices; for 60 views, 0.17 MB and 7 GB.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np

from volumes.errors import CannotWrite
from volumes.storage.atomic import make_folder, whole_file
from volumes.tomography.geometry import Geometry
from volumes.tomography.scanner import Scanner, Sinogram, Slice
from volumes.volume import Volume


def sinogram(volume: Volume, index: int, scanner: Scanner) -> Sinogram:
    """The noise-free sinogram of a slice, from the cache or computed.

    The function is thread-safe. Two threads may compute the same sinogram, with the same result.

    Args:
        volume: with square pixels.
        index: of the slice.
        scanner: its geometry and attenuation are used.
    """
    hu, pixel_mm = volume.hu[index], volume.spacing_mm[2]
    if volume.kept is None:
        return scanner.project(hu, pixel_mm)
    shape = hu.shape[0], hu.shape[1]
    geometry = scanner.geometry.seeing(max(shape))
    path = (
        volume.kept.folder / "sinograms" / volume.sha256 / _name(scanner, geometry, pixel_mm)
        / f"{index:05d}.npz"
    )  # fmt: skip
    integrals = _read(path, geometry)
    if integrals is None:
        if path.exists():
            volume.kept.report_damaged(path)
        integrals = scanner.project(hu, pixel_mm).integrals
        if not volume.kept.read_only:
            try:
                make_folder(path.parent)
                with whole_file(path, overwrite=True) as file:
                    np.savez(file, integrals=integrals)
            except CannotWrite as refusal:
                volume.kept.make_read_only(refusal)
    return Sinogram(integrals, geometry, pixel_mm, shape)


def _name(scanner: Scanner, geometry: Geometry, pixel_mm: float) -> str:
    """A hash of the parameters of scanner and slices that change the sinogram."""
    decisive = {
        **geometry.about(), "mu_water_per_mm": scanner.mu_water_per_mm, "pixel_mm": pixel_mm,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path, geometry: Geometry) -> Slice | None:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            integrals = arrays["integrals"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    wanted = np.float32, (geometry.views, geometry.bins)
    return integrals if (integrals.dtype, integrals.shape) == wanted else None
