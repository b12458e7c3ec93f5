"""The store: every scan as an uncompressed, memory-mapped int16 array.

A crop of 32 x 256 x 256 voxels then reads 4 MB from the page cache instead of decompressing
100 MB.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.dataset import Case
from volumes.dataset.pairs import Pair, Pairs
from volumes.dataset.photographs import Photograph
from volumes.dataset.recordings import Compared
from volumes.errors import BadInput, CannotWrite
from volumes.nifti import Scan, open_scan
from volumes.padding import padding
from volumes.storage import digest, json_files
from volumes.storage.array_cache import ArrayCache, Content, Words
from volumes.storage.atomic import make_folder
from volumes.storage.cache_folder import CacheFolder
from volumes.volume import AIR_HU, HU, Volume

# Version of content and format. A new version makes every array again.
_LAYOUT = "v3"
_SECOND_NS, _TICK_NS = 10**9, 20 * 10**6

_Stamp = tuple[int, ...]


def default_root() -> Path:
    """The default folder: $ENGINE_CACHE, else respr-engine in the user's cache folder."""
    if chosen := os.environ.get("ENGINE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "respr-engine"


@dataclass(frozen=True)
class Store:
    """A folder of arrays, each named by the SHA-256 of its source file.

    A noisy scan has its own array, named by the SHA-256 of the clean scan and its own, because its
    padding is that of the clean scan. Each side of a set of pairs is one array (N, 2, Y, X), clean
    before noisy. It is verified and mapped once for all its cases.

    If the folder cannot be written, this is reported once, and arrays are held in memory.

    Attributes:
        root: the folder.
        tell: called with a message about damaged files and the first write error.
    """

    root: Path
    tell: Callable[[str], None] | None = field(default=None, repr=False, compare=False)
    _sets: dict[str, HU] = field(default_factory=dict, init=False, repr=False, compare=False)
    _cache: CacheFolder = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        callback = () if self.tell is None else (self.tell,)
        object.__setattr__(self, "_cache", CacheFolder(self.root / _LAYOUT, *callback))

    def volume(self, case: Case, *, scanned: bool = False) -> Volume:
        """The volume of a case, with read-only mapped voxels, converted on the first call.

        Padding and non-finite voxels become air, also in the noisy recording, so that no network
        learns from them.

        Args:
            case: the case.
            scanned: whether its slices will be scanned by a simulated scanner. The volume then has
                a mask of its padding and a cache for sinograms.

        Raises:
            BadInput: if the scan cannot be read or changes while it is read, or if its noisy
                recording is the same file.
            CannotWrite: if the store cannot be written and the scan does not fit into memory.
        """
        source = _Source(case.path)
        scan = case.open()
        sha256 = self._sha256(source) + case.trust.mark
        if not isinstance(scan, Scan):
            sha256 += scan.scale.mark
        if isinstance(scan, Pair):
            return self._pair(case, scan, sha256, source)
        hu, words = self._array(sha256, lambda: _without_padding(scan), source)
        odd = {case.path: words}
        if scanned and not isinstance(scan, Photograph):
            name = f"{sha256}-padding"
            padded, _ = self._array(name, lambda: _padded(scan), source, dtype=np.uint8)
            return Volume(
                hu, scan.spacing_mm, case.name, sha256, odd, kept=self._cache, padded=padded
            )
        if case.noisy is None or isinstance(scan, Photograph):
            return Volume(hu, scan.spacing_mm, case.name, sha256, odd)
        recording = _Source(case.noisy)
        noisy = open_scan(case.noisy, case.trust)
        noisy_sha256 = self._sha256(recording) + case.trust.mark
        if noisy_sha256 == sha256:
            cause = f"is the same file as its clean scan {case.path}"
            raise BadInput(case.noisy, cause, "Replace it by the noisy recording")
        name = f"{sha256}-{noisy_sha256}-compared"
        noisy_hu, more = self._array(name, lambda: _recorded(noisy, scan), source, recording)
        odd[case.noisy] = more
        return Volume(hu, scan.spacing_mm, case.name, sha256, odd, noisy_hu, noisy_sha256)

    def _pair(self, case: Case, pair: Pair, sha256: str, source: _Source) -> Volume:
        name = f"{sha256}-{pair.side}"
        both = self._sets.get(name)
        if both is None:
            both, _ = self._array(name, lambda: _side(pair.pairs, pair.side), source)
            self._sets[name] = both
        hu, noisy_hu = both[pair.index, :1], both[pair.index, 1:]
        odd = {case.path: pair.pairs.odd}
        return Volume(hu, pair.spacing_mm, case.name, _identity(case, hu), odd, noisy_hu)

    def _sha256(self, source: _Source) -> str:
        """The SHA-256 of a file. A file with an unchanged stamp is not read again."""
        name = hashlib.sha256(str(source.path.resolve()).encode()).hexdigest()
        note = self._cache.folder / "noted" / f"{name}.json"
        known = json_files.read_sealed(note)
        noted = known is not None and known["stamp"] == list(source.stamp)
        sha256 = str(known["sha256"]) if known and noted else digest.sha256(source.path)
        source.refuse_changed()
        if noted:
            return sha256
        if not self._cache.read_only:
            try:
                make_folder(note.parent)
                json_files.write_sealed(note, {"stamp": source.stamp, "sha256": sha256})
            except CannotWrite as refusal:
                self._cache.make_read_only(refusal)
        return sha256

    def _array(
        self, name: str, make: Callable[[], Content], *sources: _Source,
        dtype: type[np.generic] = np.int16,
    ) -> tuple[Any, Words]:  # fmt: skip
        """The read-only array of a name, and messages about oddities of its source."""
        # If a file changes between hashing and reading, its array must not be stored.
        return ArrayCache(self._cache).array(name, lambda: _guarded(make(), sources), dtype)


@dataclass(frozen=True)
class _Source:
    """A file, and its stamp when it was first seen."""

    path: Path
    stamp: _Stamp = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamp", _stamp(self.path, settled=True))

    def refuse_changed(self) -> None:
        if _stamp(self.path) != self.stamp:
            remedy = "Wait until it is complete, then start again"
            raise BadInput(self.path, "was changed while it was read", remedy)


def _stamp(path: Path, *, settled: bool = False) -> _Stamp:
    """The stamp of a file, which changes with every write.

    It includes ctime, because programs can set mtime.

    Args:
        path: of the file.
        settled: whether to wait until a further change would change the ctime.
    """
    try:
        status = path.stat()
        if settled and 0 <= (age := time.time_ns() - status.st_ctime_ns) < 2 * _SECOND_NS:
            # Two changes in one tick of the clock have the same ctime; a tick may be seconds long.
            tick = _TICK_NS if status.st_ctime_ns % _SECOND_NS else 2 * _SECOND_NS
            time.sleep(max(tick - age, 0) / _SECOND_NS)
            status = path.stat()
    except OSError as error:
        cause = f"cannot be read: {error.strerror or error}"
        raise BadInput(path, cause, "Check its name and your permissions") from error
    return (
        status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev,
    )  # fmt: skip


def _guarded(content: Content, sources: tuple[_Source, ...]) -> Content:
    """The same content. Its last step refuses a source that has changed."""

    def pieces() -> Iterator[npt.NDArray[Any]]:
        yield from content.pieces
        for source in sources:
            source.refuse_changed()

    return replace(content, pieces=pieces())


def _without_padding(scan: Scan | Photograph) -> Content:
    if isinstance(scan, Photograph):
        hu, _ = scan.read_hu()
        odd: Words = ()
    else:
        found = scan.read_voxels()
        hu, odd = found.hu, found.odd
    return _aired(hu, padding(hu), odd)


def _padded(scan: Scan) -> Content:
    found = scan.read_voxels()
    bits = np.packbits(found.gaps | padding(found.hu), axis=-1)
    return Content(bits.shape, bits)


def _recorded(noisy: Scan, clean: Scan) -> Content:
    reference = clean.read_voxels()
    # Noise may look like padding, so the padding of the clean scan is used.
    air = reference.gaps | padding(reference.hu)
    found = noisy.read_voxels()
    reference.hu[air] = found.hu[air] = AIR_HU
    odd = Compared(noisy.path, clean.path.name).oddities(reference.hu, found.hu)
    return Content(found.hu.shape, found.hu, (*found.odd, *odd))


def _aired(hu: HU, air: npt.NDArray[np.bool_], odd: Words) -> Content:
    hu[air] = AIR_HU
    return Content(hu.shape, hu, odd)


def _side(pairs: Pairs, side: str) -> Content:
    count, y, x = pairs.shape(side)
    return Content((count, 2, y, x), _both(pairs, side))


def _both(pairs: Pairs, side: str) -> Iterator[HU]:
    """(n, 2, Y, X) of a side of a set."""
    for clean, noisy in pairs.read(side):
        if pairs.scale.hu:  # the padding of grey values cannot be recognised
            air = padding(clean)
            clean[air] = noisy[air] = AIR_HU
        yield np.stack([clean, noisy], axis=1)


def _identity(case: Case, hu: HU) -> str:
    """A hash of a clean image. It is equal for two pairs with the same image."""
    content = hashlib.sha256(f"{hu.shape}".encode())
    content.update(np.ascontiguousarray(hu).data)
    if hu.min() == hu.max():
        content.update(case.name.encode())  # constant images are equal, but not a leak
    return content.hexdigest()
