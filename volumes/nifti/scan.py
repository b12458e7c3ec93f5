"""Scans: NIfTI files and their voxels.

`volumes.nifti.opening` checks a file before any voxel is allocated. `volumes.nifti.checked_stream`
reads it up to its checksum. `volumes.nifti.hu_check` checks its values. Slices are ordered by the
affine, not by the order of the array.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.nifti.checked_stream import Stamp, Stream, open_stream, refuse_changed
from volumes.nifti.header import Header
from volumes.nifti.hu_check import Census
from volumes.nifti.orientation import axes, canonical_affine, orientation
from volumes.nifti.read_options import ReadOptions
from volumes.storage import digest
from volumes.storage.read_errors import unreadable
from volumes.volume import AIR_HU, HU, Shape, SpacingMm

Stored = npt.NDArray[Any]

_PIECE_VOXELS = 2**18
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Voxels:
    """The voxels of a scan in HU.

    Attributes:
        hu: (Z, Y, X), int16 if every value is a whole number in its range, else float32. Voxels
            that are not finite are air.
        gaps: (Z, Y, X) mask of the voxels that are not finite.
        odd: messages about oddities of the voxels and the file.
        census: the counts of its values.
    """

    hu: HU
    gaps: npt.NDArray[np.bool_]
    odd: tuple[str, ...]
    census: Census


@dataclass(frozen=True)
class _Content:
    """What one reading of a scan gives: stored array, SHA-256, messages about the file's end."""

    stored: Stored
    sha256: str
    odd: tuple[str, ...]


@dataclass(frozen=True)
class Scan:
    """A NIfTI file with a checked header. Its voxels are read on demand, or held once loaded.

    Attributes:
        path: of the file, as given by the user.
        header: its header.
        shape: (Z, Y, X) in canonical order.
        spacing_mm: (Z, Y, X) in canonical order; Z is the distance of the planes of slices.
        trust: options for reading it.
        files: the file; for a pair, the header file and the voxel file.
        stamps: of these files when the header was checked.
        promised: size of the voxel file that the header declares, in bytes.
        warnings: messages about oddities; `verified` and `loaded` add those of the voxels.
    """

    path: Path
    header: Header
    shape: Shape
    spacing_mm: SpacingMm
    trust: ReadOptions
    files: tuple[Path, ...]
    stamps: tuple[Stamp, ...]
    promised: int
    warnings: tuple[str, ...]
    _content: _Content | None = field(default=None, repr=False, compare=False)

    @property
    def head(self) -> bytes:
        """All bytes before the first voxel of a file of the same kind."""
        return self.header.head

    @property
    def dtype(self) -> np.dtype[Any]:
        """Datatype of the stored values, with byte order."""
        return self.header.dtype

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the stored array, three axes or more, with those of length 1."""
        return self.header.shape

    @property
    def slope(self) -> float:
        """Scale factor: HU = slope * stored + inter."""
        return self.header.slope

    @property
    def inter(self) -> float:
        """Intercept: HU = slope * stored + inter."""
        return self.header.inter

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """(4, 4), stored index -> RAS millimetres."""
        return self.header.affine

    @property
    def orientation(self) -> npt.NDArray[np.float64]:
        """Nibabel's orientation transform from the stored to the canonical axes."""
        return orientation(self.affine)

    @property
    def axes(self) -> str:
        """The directions of the positive stored axes, such as "IPL"."""
        return axes(self.affine)

    @property
    def canonical_affine(self) -> npt.NDArray[np.float64]:
        """(4, 4), (Z, Y, X) index in canonical order -> RAS millimetres."""
        return canonical_affine(self.affine, self.stored_shape[:3])

    @property
    def nbytes(self) -> int:
        """Bytes of the stored voxels."""
        return math.prod(self.stored_shape) * self.dtype.itemsize

    def canonical(self, stored: Stored) -> Stored:
        """A (Z, Y, X) view of a stored array. Writing to the view changes the array."""
        view = stored.reshape(self.stored_shape[:3], order="F")
        mirror = tuple(slice(None, None, int(flip)) for flip in self.orientation[:, 1])
        return view[mirror].transpose(np.argsort(self.orientation[:, 0]))

    def hu(self, stored: Stored) -> npt.NDArray[np.float32]:
        """HU of stored values of any shape."""
        with np.errstate(over="ignore"):  # overflow gives inf, which counts as not finite
            if self.slope == 1.0 and self.inter == 0.0:
                return stored.astype(np.float32)
            return (stored * np.float64(self.slope) + self.inter).astype(np.float32)

    def stored(self, hu: npt.NDArray[np.float32]) -> tuple[Stored, int]:
        """Stored values of HU of any shape, and how many of them were saturated."""
        unscaled = self.slope == 1.0 and self.inter == 0.0
        exact = unscaled and self.dtype.itemsize <= 2  # float32 represents all its integers
        value = hu if exact else (hu.astype(np.float64) - self.inter) / self.slope
        if self.dtype.kind == "f":
            return value.astype(self.dtype), 0
        limits = np.iinfo(self.dtype)
        rounded = np.rint(value)
        low, high = float(limits.min), float(limits.max)
        if self.dtype.itemsize > 4:  # float64 cannot represent the largest: use the next smaller
            high = math.nextafter(high, 0)
        if rounded.min(initial=0) >= low and rounded.max(initial=0) <= high:
            return rounded.astype(self.dtype), 0
        saturated = int(np.count_nonzero((rounded < low) | (rounded > high)))
        return np.clip(rounded, low, high).astype(self.dtype), saturated

    def read(self) -> Stored:
        """The stored array, in the order of the file. That of a loaded scan is read-only.

        Raises:
            BadInput: if the file ends early, is damaged, or was changed after it was opened.
        """
        return self._read()[0]

    def _read(self) -> tuple[Stored, list[str]]:
        """As `read`, with messages about oddities at the end of the file."""
        if self._content is not None:
            self._refuse_changed()
            return self._content.stored, list(self._content.odd)
        stored = np.empty(self.stored_shape, self.dtype, order="F")
        with self._reading() as stream:
            stream.need(_bytes(stored), self.promised)
            return stored, self._end(stream)

    def verified(self) -> Scan:
        """The scan with warnings about its voxels, after all of them were read once.

        The voxels are not kept. Damage is found before any work begins.

        Raises:
            BadInput: as `read`, or if the voxels are not plausible Hounsfield units.
        """
        piece = memoryview(bytearray(_PIECE_VOXELS * self.dtype.itemsize))
        with self._reading() as stream:
            census = self._census(stream, lambda start: piece[: self.nbytes - start])
            odd = self._end(stream)
        return self._warned(odd, census)

    def loaded(self) -> Scan:
        """As `verified`, with voxels and SHA-256 in memory: the file is read once.

        Raises:
            BadInput: as `verified`.
        """
        stored = np.empty(self.stored_shape, self.dtype, order="F")
        flat, step = _bytes(stored), _PIECE_VOXELS * self.dtype.itemsize
        with self._reading(hashed=True) as stream:
            census = self._census(stream, lambda start: flat[start : start + step])
            odd = self._end(stream)
            sha256 = stream.sha256()
            self._refuse_changed()
        stored.flags.writeable = False
        content = _Content(stored, sha256, tuple(odd))
        return replace(self._warned(odd, census), _content=content)

    def holding(self, stored: Stored) -> Scan:
        """As `loaded`, of voxels that are in memory already. They must not change from now on.

        The SHA-256 is that of an uncompressed file of this header and these voxels.

        Args:
            stored: stored values, of the datatype and shape of the header.

        Raises:
            BadInput: if they are not plausible Hounsfield units.
        """
        census, found = Census(), hashlib.sha256(self.head)
        for slice_ in self.canonical(stored):
            census.add(self.hu(slice_))
        for piece in stored.T:  # in the order of the file
            found.update(np.ascontiguousarray(piece).data)
        held = stored.view()
        held.flags.writeable = False
        content = _Content(held, found.hexdigest(), ())
        return replace(self._warned([], census), _content=content)

    def _census(self, stream: Stream, buffer: Callable[[int], memoryview]) -> Census:
        """The counts of all voxels, which are read into the buffer of their first byte."""
        census = Census()
        for start in range(0, self.nbytes, _PIECE_VOXELS * self.dtype.itemsize):
            piece = buffer(start)
            stream.need(piece, self.promised)
            census.add(self.hu(np.frombuffer(piece, self.dtype)))
        return census

    def _warned(self, odd: list[str], census: Census) -> Scan:
        found = [*odd, *census.warnings(self.path, self.trust)]
        return replace(self, warnings=(*self.warnings, *found))

    def source(self) -> dict[str, str | int]:
        """The source of the voxels for a sidecar: SHA-256, index in a 4D file, axes if named.

        Raises:
            BadInput: as `sha256`.
        """
        chosen = {} if self.trust.volume is None else {"source_volume": self.trust.volume}
        named = {} if self.trust.axes is None else {"source_axes": self.trust.axes}
        return {"source_sha256": self.sha256(), **chosen, **named}

    def sha256(self) -> str:
        """SHA-256 of the file; for a pair, of the header file followed by the voxel file.

        Raises:
            BadInput: if it was changed after it was opened, or no longer exists.
        """
        if self._content is not None:
            self._refuse_changed()
            return self._content.sha256
        try:
            sha256 = digest.sha256(*self.files)
        except OSError as error:
            raise unreadable(self.path, error) from error
        self._refuse_changed()
        return sha256

    @contextmanager
    def _reading(self, *, hashed: bool = False) -> Iterator[Stream]:
        """The stream of the voxel file, positioned at the first voxel.

        Args:
            hashed: whether the bytes of the files are hashed while they are read.
        """
        try:
            before = digest.begun(*self.files[:-1]) if hashed else None
        except OSError as error:
            raise unreadable(self.path, error) from error
        with open_stream(self.files[-1], before) as stream:
            self._refuse_changed()
            stream.skip(self.header.offset, self.promised)
            yield stream

    def _end(self, stream: Stream) -> list[str]:
        """Reads to the end of the file, and returns messages about oddities there."""
        if self.header.offset + self.nbytes < self.promised:  # other volumes follow
            stream.skip(self.promised - self.header.offset - self.nbytes, self.promised)
        odd = stream.rest(self.trust)
        self._refuse_changed()
        return odd

    def _refuse_changed(self) -> None:
        for path, stamp in zip(self.files, self.stamps, strict=True):
            refuse_changed(path, stamp)

    def read_hu(self) -> HU:
        """(Z, Y, X) HU, int16 if every value is a whole number in its range, else float32.

        Values that are not finite become air.
        """
        return self.read_voxels().hu

    def read_voxels(self) -> Voxels:
        """As `read_hu`, with the mask of non-finite voxels and messages."""
        stored, odd = self._read()
        view = self.canonical(stored)
        dtype = np.int16 if self._whole(stored) else np.float32
        hu, gaps = np.empty(self.shape, dtype), np.empty(self.shape, bool)
        census = Census()
        for z, slice_ in enumerate(view):  # per slice: avoids a float copy of the volume
            value = self.hu(slice_)
            census.add(value)
            gaps[z] = ~np.isfinite(value)
            hu[z] = np.where(gaps[z], AIR_HU, value)
        odd += census.warnings(self.path, self.trust)
        return Voxels(hu, gaps, tuple(odd), census)

    def _whole(self, stored: Stored) -> bool:
        """Whether the finite HU of all stored values are whole numbers in the range of int16."""
        if self.dtype.kind in "iu" and self.slope.is_integer() and self.inter.is_integer():
            ends = self.hu(np.array([stored.min(), stored.max()]))
            return is_whole(ends)
        values = (self.hu(slice_) for slice_ in self.canonical(stored))
        return all(is_whole(hu[np.isfinite(hu)]) for hu in values)


def _bytes(stored: Stored) -> memoryview:
    """The bytes of a stored array, to be written to."""
    flat: Any = stored.reshape(-1, order="F").view(np.uint8)
    return memoryview(flat)


def is_whole(hu: npt.NDArray[Any]) -> bool:
    """Whether all values are whole numbers in the range of int16."""
    inside = hu.min(initial=0) >= _INT16.min and hu.max(initial=0) <= _INT16.max
    return bool(inside and (np.rint(hu) == hu).all())


def bits(stored: Stored) -> npt.NDArray[Any]:
    """Stored values as unsigned integers, for bitwise comparison: NaN equals NaN."""
    return np.ascontiguousarray(stored).view(f"u{stored.dtype.itemsize}")
