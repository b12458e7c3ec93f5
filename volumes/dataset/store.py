"""The store: every scan as an uncompressed, memory-mapped array.

It is int16 if every HU is a whole number in its range, as in nearly all scans. Else it is float32,
which holds the HU of float32 files exactly, and those of float64 files to 6e-8 of their value.

A crop of 32 x 256 x 256 voxels then reads 4 MB from the page cache instead of decompressing
100 MB.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.dataset import Case
from volumes.dataset.measured import Measured, measured, recording
from volumes.dataset.pairs import Pair, Pairs
from volumes.dataset.photographs import Photograph
from volumes.dataset.twins import voxels_sha256
from volumes.errors import BadInput, CannotWrite
from volumes.nifti import Scan, open_scan
from volumes.padding import padding
from volumes.storage import digest, json_files
from volumes.storage.array_cache import ArrayCache, Content, Kept, Words
from volumes.storage.atomic import make_folder
from volumes.storage.cache_folder import CacheFolder
from volumes.storage.read_errors import unreadable
from volumes.volume import AIR_HU, HU, Volume

# Version of content and format. A new version makes every array again.
_LAYOUT = "v4"
_NOWHERE = Path(os.devnull)  # no file lies below it
_SET = "Set ENGINE_CACHE to a folder"
_SECOND_NS, _TICK_NS = 10**9, 20 * 10**6

_NO_VOXELS: HU = np.zeros((0, 0, 0), np.int16)

_Stamp = tuple[int, ...]


def default_root() -> Path | None:
    """The default folder: $ENGINE_CACHE, else respr-engine in the user's cache folder.

    It is None for a user without a home, as of a container, if the environment names no folder.
    """
    chosen, caches = (os.environ.get(name) for name in ("ENGINE_CACHE", "XDG_CACHE_HOME"))
    try:
        if chosen:
            return Path(chosen).expanduser()
        return Path(caches or "~/.cache").expanduser() / "respr-engine"
    except RuntimeError:  # no home
        return None


@dataclass(frozen=True)
class Store:
    """A folder of arrays, each named by the SHA-256 of its source file.

    A noisy scan has its own array, named by the SHA-256 of the clean scan and its own, because its
    padding depends on both. Each side of a set of pairs is one array (N, 2, Y, X), clean
    before noisy. It is verified and mapped once for all its cases.

    If the folder cannot be written, this is reported once, and arrays are held in memory.

    Attributes:
        root: the folder; None is as a folder that cannot be written.
        tell: called with a message about damaged files and the first write error.
        frozen: whether nothing is written: what is stored is used, the rest is held in memory.
    """

    root: Path | None
    tell: Callable[[str], None] | None = field(default=None, repr=False, compare=False)
    frozen: bool = False
    _sets: dict[str, HU] = field(default_factory=dict, init=False, repr=False, compare=False)
    _cache: CacheFolder = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        callback = () if self.tell is None else (self.tell,)
        folder = (self.root or _NOWHERE) / _LAYOUT
        object.__setattr__(self, "_cache", CacheFolder(folder, *callback))
        if self.frozen:
            self._cache.freeze()
        elif self.root is None:
            self._cache.make_read_only(CannotWrite("cache", "there is no home folder for it", _SET))

    def outline(self, case: Case, *, hashed: bool, voxels: bool = False) -> Volume:
        """The volume of a case without its voxels: its name and its hashes.

        Args:
            case: the case. A pair of a set cannot be hashed here: its hash is that of its image.
            hashed: whether the files are read for their hashes, which are else empty.
            voxels: whether the voxels are read for their hash, which is else empty.

        Raises:
            BadInput: if a file cannot be read, or the noisy recording is the same file.
        """
        if voxels:
            return replace(self.volume(case), hu=_NO_VOXELS, noisy_hu=None, padded=None)
        sha256 = noisy_sha256 = ""
        if hashed:
            sha256 = self._sha256(_Source(case.path)) + case.trust.mark
        if hashed and case.noisy is not None:
            noisy_sha256 = self._sha256(_Source(case.noisy)) + case.trust.mark
            _refuse_same(case.noisy, noisy_sha256, case.path, sha256)
        return Volume(_NO_VOXELS, (1.0, 1.0, 1.0), case.name, sha256, noisy_sha256=noisy_sha256)

    def volume(self, case: Case, *, scanned: bool = False) -> Volume:
        """The volume of a case, with read-only mapped voxels, converted on the first call.

        Padding and non-finite voxels become air, so that no network learns from them. In a noisy
        recording, only voxels that are padding in both scans become air: a clean phantom is
        constant outside the body, where its recording measures noise.

        Args:
            case: the case.
            scanned: whether its slices will be scanned by a simulated scanner. The volume then has
                a cache for sinograms, and no noisy recording.

        Raises:
            BadInput: if the scan cannot be read or changes while it is read, or if its noisy
                recording has the same voxels.
            LabelMap: if it holds labels, whatever its read options.
            CannotWrite: if the store cannot be written and the scan does not fit into memory.
        """
        source = _Source(case.path)
        scan = case.open()
        sha256 = self._sha256(source) + case.trust.mark
        if not isinstance(scan, Scan):
            sha256 += scan.scale.mark
        if isinstance(scan, Pair):
            return self._pair(case, scan, sha256, source)
        if isinstance(scan, Photograph):
            kept = self._array(sha256, lambda: _content(scan.read_hu()[0], ()), source)
            return _volume(case, scan, sha256, kept)
        kept, padded = self._scan(sha256, lambda: measured(scan), source)
        volume = _volume(case, scan, sha256, kept, padded=padded)
        if scanned:
            return replace(volume, kept=self._cache)
        return volume if case.noisy is None else self._recorded(case, scan, volume, source)

    def _recorded(self, case: Case, scan: Scan, clean: Volume, source: _Source) -> Volume:
        """The volume with its noisy recording."""
        assert case.noisy is not None
        path, file = case.noisy, _Source(case.noisy)
        noisy = open_scan(path, case.trust)
        noisy_sha256 = self._sha256(file) + case.trust.mark
        name = f"{clean.sha256}-{noisy_sha256}"
        kept, padded = self._scan(name, lambda: recording(scan, noisy), source, file)
        return replace(
            clean, odd={**clean.odd, path: kept.odd}, noisy_hu=kept.array,
            noisy_sha256=noisy_sha256, padded=padded,
        )  # fmt: skip

    def _pair(self, case: Case, pair: Pair, sha256: str, source: _Source) -> Volume:
        name = f"{sha256}-{pair.side}"
        both = self._sets.get(name)
        if both is None:
            both = self._array(name, lambda: _side(pair.pairs, pair.side), source).array
            self._sets[name] = both
        hu, noisy_hu = both[pair.index, :1], both[pair.index, 1:]
        odd = {case.path: pair.pairs.odd}
        return Volume(
            hu, pair.spacing_mm, case.name, _identity(case, hu), odd, noisy_hu,
            voxels_sha256=voxels_sha256(hu),
        )  # fmt: skip

    def _sha256(self, source: _Source) -> str:
        """The SHA-256 of a file. A file with an unchanged stamp is not read again."""
        name = hashlib.sha256(os.fsencode(source.path.resolve())).hexdigest()
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

    def _scan(
        self, name: str, read: Callable[[], Measured], *sources: _Source
    ) -> tuple[Kept, npt.NDArray[np.uint8]]:
        """The voxels of a scan and the mask of its padding. Both are made in one reading."""
        once = cache(read)

        def mask() -> Kept:
            return self._array(f"{name}-padding", lambda: _bits(once().padding), *sources)

        def voxels() -> Content:
            mask()  # first: other threads wait for the voxels, and find the mask then
            return _content(once().hu, once().odd)

        return self._array(name, voxels, *sources), mask().array

    def _array(self, name: str, make: Callable[[], Content], *sources: _Source) -> Kept:
        """The array of a name, made of its sources if it is missing."""
        # If a file changes between hashing and reading, its array must not be stored.
        return ArrayCache(self._cache).array(name, lambda: _guarded(make(), sources))


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


def _refuse_same(noisy: Path, noisy_sha256: str, clean: Path, sha256: str) -> None:
    if noisy_sha256 == sha256:
        cause = f"is the same file as its clean scan {clean}"
        raise BadInput(noisy, cause, "Replace it by the noisy recording")


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
        raise unreadable(path, error) from error
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


def _content(hu: HU, odd: Words) -> Content:
    return Content(hu.shape, hu, odd, hu.dtype.type, voxels_sha256(hu))


def _bits(mask: npt.NDArray[np.bool_]) -> Content:
    packed = np.packbits(mask, axis=-1)
    return Content(packed.shape, packed, dtype=np.uint8)


def _volume(case: Case, scan: Scan | Photograph, sha256: str, kept: Kept, **more: Any) -> Volume:
    odd, identity = {case.path: kept.odd}, kept.identity
    return Volume(
        kept.array, scan.spacing_mm, case.name, sha256, odd, voxels_sha256=identity, **more
    )


def _side(pairs: Pairs, side: str) -> Content:
    count, y, x = pairs.shape(side)
    return Content((count, 2, y, x), _both(pairs, side))


def _both(pairs: Pairs, side: str) -> Iterator[HU]:
    """(n, 2, Y, X) of a side of a set."""
    for clean, noisy in pairs.read(side):
        if pairs.scale.hu:  # the padding of grey values cannot be recognised
            air = np.concatenate([padding(image[None]) for image in clean])
            clean[air] = noisy[air] = AIR_HU
        yield np.stack([clean, noisy], axis=1)


def _identity(case: Case, hu: HU) -> str:
    """A hash of a clean image. It is equal for two pairs with the same image."""
    content = hashlib.sha256(f"{hu.shape}".encode())
    content.update(np.ascontiguousarray(hu).data)
    if hu.min() == hu.max():
        # Constant images are equal, but not a leak.
        content.update(case.name.encode(errors="surrogateescape"))
    return content.hexdigest()
