"""The store: every scan once as an uncompressed int16 array, mapped into memory.

A crop of 32 x 256 x 256 then costs 4 MB of the page cache instead of a 100 MB decompression.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes import digest, document
from volumes.atomic import cannot_write, make_folder, whole_file
from volumes.dataset import Case
from volumes.nifti import Scan, open_scan
from volumes.padding import padding
from volumes.pairs import Pair, Pairs
from volumes.photographs import Photograph
from volumes.refusals import BadInput
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

    A noisy scan has its own array, named by the clean scan's sha256 and its own: its padding is the
    clean one's. Each side of a set of pairs is one array (N, 2, Y, X), clean before noisy, which a
    store verifies and maps once for all its cases.
    """

    root: Path
    _sets: dict[str, HU] = field(default_factory=dict, init=False, repr=False, compare=False)

    def volume(self, case: Case, *, scanned: bool = False) -> Volume:
        """The volume of a case, its voxels mapped read-only; converted first where need be.

        Padding and non-finite voxels become air, in the noisy recording, too: no network learns
        from them.

        Args:
            case: what is read.
            scanned: whether its slices will be scanned again: where there was padding is then told,
                and sinograms have a place.

        Raises:
            BadInput: where the scan cannot be read, or its noisy recording is the scan itself.
            CannotWrite: where the store cannot be written.
        """
        scan = case.open()
        sha256 = self._sha256(case.path)
        if isinstance(scan, Pair):
            return self._pair(case, scan, sha256)
        hu, saturated = self._array(sha256, lambda: _without_padding(scan))
        if scanned and not isinstance(scan, Photograph):
            padded, _ = self._array(f"{sha256}-padding", lambda: _padded(scan), np.uint8)
            kept = self.root / _LAYOUT / "sinograms"
            return Volume(
                hu, scan.spacing_mm, case.name, sha256, saturated, kept=kept, padded=padded
            )
        if case.noisy is None or isinstance(scan, Photograph):
            return Volume(hu, scan.spacing_mm, case.name, sha256, saturated)
        noisy_sha256 = self._sha256(case.noisy)
        if noisy_sha256 == sha256:
            cause = f"is the same file as its clean scan {case.path}"
            raise BadInput(case.noisy, cause, "Put the noisy recording in its place")
        noisy = open_scan(case.noisy)
        noisy_hu, more = self._array(f"{sha256}-{noisy_sha256}", lambda: _recorded(noisy, scan))
        saturated += more
        return Volume(hu, scan.spacing_mm, case.name, sha256, saturated, noisy_hu, noisy_sha256)

    def _pair(self, case: Case, pair: Pair, sha256: str) -> Volume:
        name = f"{sha256}-{pair.side}"
        both = self._sets.get(name)
        if both is None:
            both, _ = self._array(name, lambda: _side(pair.pairs, pair.side))
            self._sets[name] = both
        hu, noisy_hu = both[pair.index, :1], both[pair.index, 1:]
        return Volume(hu, pair.spacing_mm, case.name, _identity(case, hu), 0, noisy_hu)

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

    def _array(
        self, name: str, make: Callable[[], _Content], dtype: type[np.generic] = np.int16
    ) -> tuple[Any, int]:
        """The array of a name, mapped read-only, made first where need be; its saturated voxels."""
        folder = self.root / _LAYOUT
        with _lock(folder, name):
            description = self._description(folder, name, dtype)
            if description is None:
                description = self._write(folder, name, make(), dtype)
        array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array, int(description["saturated_voxels"])

    def _description(
        self, folder: Path, name: str, dtype: type[np.generic]
    ) -> dict[str, Any] | None:
        description = _json(folder / f"{name}.json")
        if description is None:
            return None
        try:
            hu = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            # A flipped bit in the array's own header changes the datatype, not the bytes.
            found = [hu.dtype.str, list(hu.shape), _crc32(hu)]
        except Exception:  # numpy raises many kinds here; each means that the array is damaged
            return None
        wanted = [np.dtype(dtype).str, description.get("shape"), description.get("crc32")]
        return description if found == wanted else None

    def _write(
        self, folder: Path, name: str, content: _Content, dtype: type[np.generic]
    ) -> dict[str, Any]:
        crc = 0
        with whole_file(folder / f"{name}.npy", overwrite=True) as file:
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": content.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in content.pieces:
                values = np.ascontiguousarray(piece).data
                crc = zlib.crc32(values, crc)
                file.write(values)
        description = {"shape": content.shape, "crc32": crc, **content.counts}
        # The description comes last: its presence is what makes the array valid.
        with whole_file(folder / f"{name}.json", overwrite=True) as file:
            file.write(json.dumps(description).encode())
        return description


@dataclass(frozen=True)
class _Content:
    """An array to write, in pieces along its first axis, so that it need not fit into memory."""

    shape: tuple[int, ...]
    pieces: Iterable[npt.NDArray[Any]]
    counts: dict[str, int]


def _without_padding(scan: Scan | Photograph) -> _Content:
    hu, saturated = scan.read_hu()
    return _aired(hu, padding(hu), saturated)


def _padded(scan: Scan) -> _Content:
    hu, gaps, saturated = scan.read_hu_and_gaps()
    gaps |= padding(hu)
    bits = np.packbits(gaps, axis=-1)
    return _Content(bits.shape, bits, {"saturated_voxels": saturated})


def _recorded(noisy: Scan, clean: Scan) -> _Content:
    clean_hu, gaps, _ = clean.read_hu_and_gaps()
    # Noise may look like padding: only the clean scan can tell.
    gaps |= padding(clean_hu)
    del clean_hu
    hu, saturated = noisy.read_hu()
    return _aired(hu, gaps, saturated)


def _aired(hu: HU, air: npt.NDArray[np.bool_], saturated: int) -> _Content:
    hu[air] = AIR_HU
    counts = {"padding_voxels": int(np.count_nonzero(air)), "saturated_voxels": saturated}
    return _Content(hu.shape, hu, counts)


def _side(pairs: Pairs, side: str) -> _Content:
    count, y, x = pairs.shape(side)
    return _Content((count, 2, y, x), _both(pairs, side), {"saturated_voxels": 0})


def _both(pairs: Pairs, side: str) -> Iterator[HU]:
    """(n, 2, Y, X) of a side of a set."""
    for clean, noisy in pairs.read(side):
        if pairs.whole:  # floats are no HU: nothing tells their padding from their values
            air = padding(clean)
            clean[air] = noisy[air] = AIR_HU
        yield np.stack([clean, noisy], axis=1)


def _identity(case: Case, hu: HU) -> str:
    """What tells the pairs of one file apart, and finds an image that stands in two of them."""
    content = hashlib.sha256(f"{hu.shape}".encode())
    content.update(np.ascontiguousarray(hu).data)
    if hu.min() == hu.max():
        content.update(case.name.encode())  # empty images are alike, and no leak
    return content.hexdigest()


def _crc32(hu: HU) -> int:
    crc = 0
    for slice_ in hu:
        crc = zlib.crc32(np.ascontiguousarray(slice_).data, crc)
    return crc


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = document.read(path)
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
