"""Pairs: clean images with noisy recordings, as two scans on one grid or as a set in one file.

A set is an .h5, .hdf5 or .npz file of four arrays, as published with the four-layer CNN:
`train_ns`, `train_gt`, `test_ns`, `test_gt` (ns: noisy, gt: clean), each (N, Y, X) or (N, Y, X, 1).
Every pair is a case of one slice, like a photograph. The values are HU or grey values of any
datatype. One scale, see `volumes.dataset.grey_values`, holds for all four arrays.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.dataset.grey_values import (
    AS_FOUND,
    GreyWanted,
    Scale,
    Spread,
    joined,
    scale_of,
    spread,
    stored,
)
from volumes.dataset.recordings import Compared
from volumes.errors import BadInput, Refusal
from volumes.nifti import Scan
from volumes.nifti.checked_stream import DEFLATE_CEILING
from volumes.nifti.grid import displacement_mm, on_one_grid
from volumes.storage.read_errors import unreadable
from volumes.volume import HU, Shape, SpacingMm

SIDES = ("train", "test")
_KEYS = tuple(f"{side}_{kind}" for side in SIDES for kind in ("ns", "gt"))
_NAME = re.compile(r"(?P<side>train|test)_(?P<index>\d{5,})")
_BLOCK_BYTES = 2**26
_COMPARED = 32  # pairs a side
_DOWNLOAD = "Download or export it again"


@dataclass(frozen=True)
class Pairs:
    """A set of pairs in a file. Its images are read on demand.

    Attributes:
        path: of the file.
        train, test: (N, Y, X) of each side.
        scale: of the values of all four arrays.
        odd: messages about noisy images that do not fit the clean ones.
    """

    path: Path
    train: Shape
    test: Shape
    scale: Scale
    odd: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the cases: `train_00000`, ..., `test_00000`, ..."""
        return [f"{side}_{i:05d}" for side in SIDES for i in range(self.shape(side)[0])]

    def shape(self, side: str) -> Shape:
        """(N, Y, X) of a side."""
        return self.train if side == "train" else self.test

    def read(self, side: str) -> Iterator[tuple[HU, HU]]:
        """Blocks of (n, Y, X) int16 clean images and their noisy recordings, in order.

        HDF5 files are read in blocks, each chunk once. The arrays of an .npz file are held in
        memory. Flipped bits are detected if the file has checksums: .npz always does, HDF5 only if
        it was written with fletcher32.

        Raises:
            BadInput: if the file is damaged or has a value outside the range of int16.
        """
        count = self.shape(side)[0]
        with _reading(self.path) as arrays:
            clean, noisy = arrays[f"{side}_gt"], arrays[f"{side}_ns"]
            step = _rows(clean)
            for start in range(0, count, step):
                yield (
                    self._grey(f"{side}_gt", clean, start, start + step),
                    self._grey(f"{side}_ns", noisy, start, start + step),
                )

    def read_one(self, side: str, kind: str, index: int) -> HU:
        """(1, Y, X) int16 of one image; `kind` is "gt" (clean) or "ns" (noisy).

        Raises:
            BadInput: as `read`.
        """
        with _reading(self.path) as arrays:
            return self._grey(f"{side}_{kind}", arrays[f"{side}_{kind}"], index, index + 1)

    def _grey(self, key: str, array: Any, start: int, stop: int) -> HU:
        found = _images(array, start, stop)
        values = stored(found, self.scale)
        limits = np.iinfo(np.int16)
        holds = (values >= limits.min) & (values <= limits.max)  # False for NaN
        if not holds.all():
            first = int(np.argmin(holds))
            pair = start + first // math.prod(holds.shape[1:])
            finite = np.isfinite(values.ravel()[first])
            remedy = f"Images are {self.scale.told}: correct it" if finite else "Save finite values"
            cause = f"{key} holds {found.ravel()[first]:g} in pair {pair}, which int16 cannot hold"
            raise BadInput(self.path, cause, remedy)
        return values.astype(np.int16)


@dataclass(frozen=True)
class Pair:
    """One pair of a set. Its images are read on demand.

    Attributes:
        pairs: the set.
        side: "train" or "test".
        index: within the side.
        spacing_mm: 1 along every axis, because sets declare no spacing.
    """

    pairs: Pairs
    side: str
    index: int
    spacing_mm: SpacingMm = (1.0, 1.0, 1.0)

    @property
    def scale(self) -> Scale:
        """The scale of the whole set."""
        return self.pairs.scale

    @property
    def shape(self) -> Shape:
        """(1, Y, X)."""
        _, y, x = self.pairs.shape(self.side)
        return 1, y, x

    def read_hu(self) -> tuple[HU, int]:
        """(1, Y, X) int16 clean image, and 0 saturated voxels: such values are refused.

        Raises:
            BadInput: if the file is damaged or a value is outside the range of int16.
        """
        return self.pairs.read_one(self.side, "gt", self.index), 0


def open_pairs(path: Path, wanted: GreyWanted = AS_FOUND) -> Pairs:
    """Opens a set of pairs: checks the headers of its arrays, then reads them once for their scale.

    Args:
        path: of the file.
        wanted: how its values are to be read.

    Raises:
        BadInput: if the file is not a set of pairs, its headers are inconsistent, its values do not
            fit the window, or its noisy images are no recordings of the clean ones.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(path, "is not a regular file", "Name an .h5, .hdf5 or .npz file")
    # A set has thousands of cases, and each one opens it: the result is cached.
    return _opened(path, wanted, status.st_size, status.st_mtime_ns, status.st_ino)


def open_pair(path: Path, name: str, wanted: GreyWanted = AS_FOUND) -> Pair:
    """The pair of a name such as `train_00000`.

    Raises:
        BadInput: as `open_pairs`, or if it has no such pair.
    """
    pairs = open_pairs(path, wanted)
    match = _NAME.fullmatch(name)
    if not match or int(match["index"]) >= pairs.shape(match["side"])[0]:
        raise BadInput(path, f"holds no pair {name}", "Name pairs that it holds")
    return Pair(pairs, match["side"], int(match["index"]))


def refuse_other_grid(clean: Scan, noisy: Scan) -> None:
    """Refuses a noisy scan on another grid than the clean one. The order of axes may differ.

    Raises:
        BadInput: if the shapes differ, or a corner is displaced by more than a tenth of a voxel.
    """
    remedy = "Resample it to the grid of the clean scan"
    if noisy.shape != clean.shape:
        found, wanted = (" x ".join(map(str, scan.shape)) for scan in (noisy, clean))
        cause = f"has {found} voxels (Z, Y, X), its clean scan {clean.path} has {wanted}"
        raise BadInput(noisy.path, cause, remedy)
    if not on_one_grid(clean, noisy):
        apart_mm = displacement_mm(clean, noisy)
        cause = f"lies up to {apart_mm:.3g} mm away from its clean scan {clean.path}"
        raise BadInput(noisy.path, cause, remedy)


@lru_cache(maxsize=8)
def _opened(path: Path, wanted: GreyWanted, size: int, *stamp: int) -> Pairs:
    train, test = _checked(path, size)
    values = {
        side: _survey(path, side, shape)
        for side, shape in (("train", train), ("test", test))
        if shape[0]
    }
    spreads = [each.clean for each in values.values() if each.clean is not None]
    if not spreads:
        raise BadInput(path, "holds no finite value", _DOWNLOAD)
    pairs = Pairs(path, train, test, scale_of(path, joined(path, spreads), wanted))
    odd: list[str] = []
    for side, each in values.items():
        if not each.fits(pairs.scale):
            for _ in pairs.read(side):  # refuses the first value that does not fit, with its place
                pass
        odd += _compared(pairs, side, each)
    return replace(pairs, odd=tuple(odd))


@dataclass(frozen=True)
class _Values:
    """What one side holds: the spread of its clean images, and both extremes of all images."""

    clean: Spread | None
    least: float
    most: float
    some_clean: npt.NDArray[Any]
    some_noisy: npt.NDArray[Any]

    def fits(self, scale: Scale) -> bool:
        ends, limits = stored(np.array([self.least, self.most]), scale), np.iinfo(np.int16)
        return bool(ends[0] >= limits.min and ends[1] <= limits.max)  # False for NaN


def _survey(path: Path, side: str, shape: Shape) -> _Values:
    chosen = np.unique(np.linspace(0, shape[0] - 1, min(shape[0], _COMPARED)).astype(int))
    some: dict[str, list[npt.NDArray[Any]]] = {"gt": [], "ns": []}
    ends = [np.inf, -np.inf]

    def blocks(kind: str) -> Iterator[npt.NDArray[Any]]:
        array = arrays[f"{side}_{kind}"]
        step = _rows(array)
        for start in range(0, shape[0], step):
            block = _images(array, start, start + step)
            within = chosen[(chosen >= start) & (chosen < start + step)]
            some[kind].extend(block[within - start])
            # Not the builtin functions, which ignore NaN.
            ends[0] = float(np.minimum(ends[0], block.min()))
            ends[1] = float(np.maximum(ends[1], block.max()))
            yield block

    with _reading(path) as arrays:
        _, datatype = _declared(path, arrays, f"{side}_gt")
        clean = spread(datatype, blocks("gt"), math.prod(shape))
        for _ in blocks("ns"):
            pass
    return _Values(clean, ends[0], ends[1], np.stack(some["gt"]), np.stack(some["ns"]))


def _compared(pairs: Pairs, side: str, values: _Values) -> tuple[str, ...]:
    unit = "HU" if pairs.scale.hu else "grey values"
    width = pairs.scale.window.width_hu
    compared = Compared(pairs.path, f"{side}_gt", f"{side}_ns", width, unit, stacked=False)
    clean, noisy = (stored(some, pairs.scale) for some in (values.some_clean, values.some_noisy))
    return compared.oddities(clean, noisy)


def _checked(path: Path, size: int) -> tuple[Shape, Shape]:
    """The shapes of both sides, from the headers alone."""
    with _reading(path) as arrays:
        missing = [key for key in _KEYS if key not in arrays]
        if missing:
            remedy = f"Save a set of pairs as {', '.join(_KEYS)}"
            raise BadInput(path, f"holds no {', no '.join(missing)}", remedy)
        declared = {key: _declared(path, arrays, key) for key in _KEYS}
    shapes = {key: _shape(path, key, shape) for key, (shape, _) in declared.items()}
    kinds = {dtype.kind for _, dtype in declared.values()}
    if "f" in kinds and len(kinds) > 1:
        cause = "mixes whole numbers with floats, which have different scales"
        raise BadInput(path, cause, "Save all four arrays as whole numbers, or all as floats")
    for side in SIDES:
        noisy, clean = shapes[f"{side}_ns"], shapes[f"{side}_gt"]
        if noisy != clean:
            cause = f"has {side}_ns of shape {noisy} beside {side}_gt of {clean}"
            raise BadInput(path, cause, "Save a noisy image for every clean one")
    if not shapes["train_gt"][0] + shapes["test_gt"][0]:
        raise BadInput(path, "holds no pair", _DOWNLOAD)
    needed = sum(math.prod(shape) * dtype.itemsize for shape, dtype in declared.values())
    if needed > DEFLATE_CEILING * size:
        cause = f"declares {needed:,} bytes, more than its {size:,} bytes can hold"
        raise BadInput(path, cause, _DOWNLOAD)
    return shapes["train_gt"], shapes["test_gt"]


def _shape(path: Path, key: str, declared: tuple[int, ...]) -> Shape:
    row = len(declared) == 3 or (len(declared) == 4 and declared[3] == 1)
    if not row or declared[0] < 0 or min(declared[1:3]) < 1:
        cause = f"has {key} of shape {declared}, not (N, Y, X) or (N, Y, X, 1)"
        raise BadInput(path, cause, "Save grey images, one after the other")
    count, y, x = declared[:3]
    return count, y, x


def _declared(path: Path, arrays: Any, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and datatype of an array, from its header alone."""
    read = _declared_npz if _is_npz(path) else _declared_h5
    shape, dtype = read(path, arrays, key)
    if dtype.kind not in "iuf":
        cause = f"has {key} of datatype {dtype}, not real numbers"
        raise BadInput(path, cause, "Save whole numbers or floats")
    return shape, dtype


def _declared_npz(path: Path, arrays: Any, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    name = f"{key}.npy"
    with arrays.zip.open(name) as member:
        version = np.lib.format.read_magic(member)
        first = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
        # If a header declares fewer bytes, the rest is not read and the checksum not verified.
        short = (
            member.tell() + math.prod(shape) * dtype.itemsize != arrays.zip.getinfo(name).file_size
        )
    if short and not dtype.hasobject:
        raise BadInput(path, f"has {key} of another length than its header says", _DOWNLOAD)
    return shape, dtype


def _declared_h5(path: Path, arrays: Any, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    import h5py

    array = arrays[key]
    if not isinstance(array, h5py.Dataset):
        raise BadInput(path, f"has a group {key}, not an array", "Save the arrays at the top level")
    if array.file.filename != arrays.filename or array.external or array.is_virtual:
        # The store identifies a set by the bytes of its own file.
        raise BadInput(path, f"keeps {key} in another file", "Save the images in the file itself")
    return array.shape or (), array.dtype


def _images(array: Any, start: int, stop: int) -> npt.NDArray[Any]:
    """(n, Y, X) of an array, without its channel axis."""
    found = np.asarray(array[start:stop])
    return found.reshape(found.shape[:3])


def _rows(array: Any) -> int:
    """Images per block: a multiple of the images per chunk, so that no chunk is read twice."""
    chunk = (getattr(array, "chunks", None) or (1,))[0]
    # 8 bytes a value: blocks are converted to float64.
    wanted = max(_BLOCK_BYTES // (math.prod(array.shape[1:]) * 8), 1)
    return int(-(-wanted // chunk) * chunk)


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """The arrays of a set by name. Errors while reading them become a BadInput."""
    try:
        if _is_npz(path):
            with open(path, "rb") as file:
                if file.read(4) != b"PK\x03\x04":
                    raise ValueError("it is not an archive of arrays")
                file.seek(0)
                with np.load(file, allow_pickle=False) as arrays:
                    yield arrays
        else:
            import h5py  # only sets of pairs need it

            with h5py.File(path, "r") as arrays:
                yield arrays
    except (Refusal, MemoryError):
        raise
    except Exception as error:  # zipfile, numpy and h5py raise many kinds of errors
        cause = f"cannot be read as {'.npz' if _is_npz(path) else 'HDF5'}: {error}"
        raise BadInput(path, cause, _DOWNLOAD) from error
