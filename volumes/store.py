"""The store: every scan once as an uncompressed int16 array, mapped into memory.

A crop of 32 x 256 x 256 then costs 4 MB of the page cache instead of a 100 MB decompression.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volumes import digest
from volumes.atomic import cannot_write, make_folder, whole_file
from volumes.dataset import Case
from volumes.nifti import Scan
from volumes.padding import padding
from volumes.photographs import Photograph
from volumes.volume import AIR_HU, HU, Volume

_LAYOUT = "v1"


def default_root() -> Path:
    """$ENGINE_CACHE, else respr-engine in the user's cache folder."""
    if chosen := os.environ.get("ENGINE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "respr-engine"


@dataclass(frozen=True)
class Store:
    """A folder of arrays named by the sha256 of the file that each was read from.

    An array is complete once its description lies beside it; whatever is found incomplete or
    damaged is made anew from the scan.
    """

    root: Path

    def volume(self, case: Case) -> Volume:
        """The volume of a case, its voxels mapped read-only; converted first where need be.

        Padding and non-finite voxels become air: no network learns from them.

        Raises:
            BadInput: where the scan cannot be read.
            CannotWrite: where the store cannot be written.
        """
        scan = case.open()
        sha256 = self._sha256(case.path)
        folder = self.root / _LAYOUT
        with _lock(folder, sha256):
            description = self._description(folder, sha256)
            if description is None:
                description = self._convert(scan, folder, sha256)
        hu: HU = np.load(folder / f"{sha256}.npy", mmap_mode="r", allow_pickle=False)
        saturated = int(description["saturated_voxels"])
        return Volume(hu, scan.spacing_mm, case.name, sha256, saturated)

    def _sha256(self, path: Path) -> str:
        """The sha256 of a file; files whose size and time stand as noted are not read again."""
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
        name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
        note = self.root / _LAYOUT / "noted" / f"{name}.json"
        known = _json(note)
        if known and known.get("stamp") == stamp:
            return str(known["sha256"])
        sha256 = digest.sha256(path)
        make_folder(note.parent)
        with whole_file(note, overwrite=True) as out:
            out.write(json.dumps({"stamp": stamp, "sha256": sha256}).encode())
        return sha256

    def _description(self, folder: Path, sha256: str) -> dict[str, Any] | None:
        description = _json(folder / f"{sha256}.json")
        if description is None:
            return None
        try:
            hu = np.load(folder / f"{sha256}.npy", mmap_mode="r", allow_pickle=False)
            # A flipped bit in the array's own header changes the datatype, not the bytes.
            found = [hu.dtype.str, list(hu.shape), _crc32(hu)]
        except Exception:  # numpy raises many kinds here; each means that the array is damaged
            return None
        wanted = [np.dtype(np.int16).str, description.get("shape"), description.get("crc32")]
        return description if found == wanted else None

    def _convert(self, scan: Scan | Photograph, folder: Path, sha256: str) -> dict[str, Any]:
        hu, saturated = scan.read_hu()
        mask = padding(hu)
        hu[mask] = AIR_HU
        description = {
            "shape": hu.shape,
            "padding_voxels": int(np.count_nonzero(mask)),
            "saturated_voxels": saturated,
            "crc32": _crc32(hu),
        }
        with whole_file(folder / f"{sha256}.npy", overwrite=True) as file:
            np.lib.format.write_array(file, hu, allow_pickle=False)
        # The description comes last: its presence is what makes the array valid.
        with whole_file(folder / f"{sha256}.json", overwrite=True) as file:
            file.write(json.dumps(description).encode())
        return description


def _crc32(hu: HU) -> int:
    crc = 0
    for slice_ in hu:
        crc = zlib.crc32(np.ascontiguousarray(slice_).data, crc)
    return crc


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


@contextmanager
def _lock(folder: Path, name: str) -> Iterator[None]:
    """Keeps processes that want the same array from converting it twice."""
    make_folder(folder)
    path = folder / f"{name}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
