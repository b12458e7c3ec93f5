"""NIfTI files, in and out.

The header is judged from its first bytes, before any voxel is allocated, and is handed back to the
byte. Slices are ordered by the affine, never by the order of the array. The checksum of a gzip
stream is verified: readers that stop after the last voxel never see it, and load most single-bit
errors silently.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from volumes.atomic import whole_file
from volumes.refusals import BadInput, CannotWrite
from volumes.volume import AIR_HU, HU, Shape, SpacingMm

Stored = npt.NDArray[Any]

# Positive axes point to inferior, posterior, left: KiTS19's own order, slices first.
CANONICAL = ("I", "P", "L")

_DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8",
    256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_OTHER_DTYPES = {
    0: "unknown", 1: "one bit a voxel", 32: "complex", 128: "colour (RGB)", 1536: "128-bit float",
    1792: "complex", 2048: "complex", 2304: "colour (RGBA)",
}  # fmt: skip
DEFLATE_CEILING = 1032  # no deflate stream expands its bytes further
_MAX_HEAD = 64 * 2**20
_DOWNLOAD = "Download or export it again"


@dataclass(frozen=True)
class Scan:
    """A NIfTI file as it lies on disk, its voxels not yet read.

    Attributes:
        path: of the file.
        head: every byte before the first voxel: header, extensions and what lies between.
        dtype: of the stored values, with their byte order.
        stored_shape: of the stored array, trailing axes of length 1 included.
        slope, inter: HU = slope * stored + inter.
        affine: (4, 4), stored index -> RAS millimetres.
        shape: (Z, Y, X) in canonical order.
        spacing_mm: (Z, Y, X) in canonical order.
    """

    path: Path
    head: bytes
    dtype: np.dtype[Any]
    stored_shape: tuple[int, ...]
    slope: float
    inter: float
    affine: npt.NDArray[np.float64]
    shape: Shape
    spacing_mm: SpacingMm

    @property
    def orientation(self) -> npt.NDArray[np.float64]:
        """Nibabel's orientation transform from the stored axes to the canonical ones."""
        return _orientation(self.affine)

    @property
    def axes(self) -> str:
        """Where the positive stored axes point, such as "IPL"."""
        return "".join(nib.aff2axcodes(self.affine))

    @property
    def canonical_affine(self) -> npt.NDArray[np.float64]:
        """(4, 4), (Z, Y, X) index in canonical order -> RAS millimetres."""
        return np.asarray(self.affine @ inv_ornt_aff(self.orientation, self.stored_shape[:3]))

    @property
    def nbytes(self) -> int:
        """Bytes of the stored voxels."""
        return math.prod(self.stored_shape) * self.dtype.itemsize

    def canonical(self, stored: Stored) -> Stored:
        """A (Z, Y, X) view of a stored array: what is written to it is written to the array."""
        view = stored.reshape(self.stored_shape[:3], order="F")
        mirror = tuple(slice(None, None, int(flip)) for flip in self.orientation[:, 1])
        return view[mirror].transpose(np.argsort(self.orientation[:, 0]))

    def hu(self, stored: Stored) -> npt.NDArray[np.float32]:
        """HU of stored values of any shape."""
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, hence no HU
            if self.slope == 1.0 and self.inter == 0.0:
                return stored.astype(np.float32)
            return (stored * np.float64(self.slope) + self.inter).astype(np.float32)

    def stored(self, hu: npt.NDArray[np.float32]) -> tuple[Stored, int]:
        """Stored values of HU of any shape, and how many of them the datatype had to saturate."""
        value = (hu.astype(np.float64) - self.inter) / self.slope
        if self.dtype.kind == "f":
            return value.astype(self.dtype), 0
        limits = np.iinfo(self.dtype)
        rounded = np.rint(value)
        # The largest 64-bit integers have no float64 of their own: stay one step inside.
        low, high = float(limits.min), math.nextafter(float(limits.max) + 1, 0)
        saturated = int(np.count_nonzero((rounded < low) | (rounded > high)))
        return np.clip(rounded, low, high).astype(self.dtype), saturated

    def read(self) -> Stored:
        """The stored array, in the order of the file.

        Raises:
            BadInput: where the file ends early or its checksum does not match.
        """
        stored = np.empty(self.stored_shape, self.dtype, order="F")
        flat: Any = stored.reshape(-1, order="F").view(np.uint8)
        buffer = memoryview(flat)
        with _reading(self.path) as file:
            file.read(len(self.head))
            filled = 0
            while filled < len(buffer) and (count := file.readinto(buffer[filled:])):
                filled += count
            while file.read(2**20):  # only at its end does gzip verify its checksum
                pass
        if filled < len(buffer):
            cause = f"ends after {filled:,} of {len(buffer):,} bytes of voxels"
            raise BadInput(self.path, cause, _DOWNLOAD)
        return stored

    def verify(self) -> None:
        """Reads the file through, keeping nothing, so that damage is known before work begins.

        Raises:
            BadInput: where the file ends early or its checksum does not match.
        """
        wanted, found = len(self.head) + self.nbytes, 0
        with _reading(self.path) as file:
            while piece := file.read(2**20):
                found += len(piece)
        if found < wanted:
            cause = f"ends after {found:,} of {wanted:,} bytes"
            raise BadInput(self.path, cause, _DOWNLOAD)

    def read_hu(self) -> tuple[HU, int]:
        """(Z, Y, X) int16 HU, and how many voxels int16 had to saturate.

        Values between integers are rounded; non-finite ones become air.
        """
        hu, _, saturated = self.read_hu_and_gaps()
        return hu, saturated

    def read_hu_and_gaps(self) -> tuple[HU, npt.NDArray[np.bool_], int]:
        """As `read_hu`, and between them the (Z, Y, X) mask of non-finite voxels."""
        view = self.canonical(self.read())
        hu, gaps = np.empty(self.shape, np.int16), np.empty(self.shape, bool)
        saturated = 0
        for z, slice_ in enumerate(view):  # a slice at a time: no float copy of the volume
            value = self.hu(slice_)
            gaps[z] = ~np.isfinite(value)
            value = np.rint(np.where(gaps[z], AIR_HU, value))
            saturated += int(np.count_nonzero((value < -32768) | (value > 32767)))
            hu[z] = np.clip(value, -32768, 32767)
        return hu, gaps, saturated


def open_scan(path: str | Path) -> Scan:
    """Reads and judges the header of a NIfTI file; no voxel is read or allocated.

    Raises:
        BadInput: where the file is not a NIfTI scan of one volume, or its header cannot be true.
    """
    path = Path(path)
    try:
        status = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise BadInput(path, f"is {kind}", "Name a .nii or .nii.gz file")
    with _reading(path) as file:
        first = file.read(544)
        order, size = _order_and_size(path, first)
        header = _header(first[:size], order)
        head_size = _head_size(path, header, size)
        head = first[:head_size] + file.read(max(head_size - len(first), 0))
    shape = _shape(path, header)
    dtype = _dtype(path, header, order)
    slope, inter = _scaling(path, header)
    affine = _affine(path, header)
    needed = head_size + math.prod(shape) * dtype.itemsize
    compressed = _is_gzip(path)
    if len(head) < head_size or (not compressed and status.st_size < needed):
        cause = f"ends after {status.st_size:,} bytes, its header promises {needed:,}"
        raise BadInput(path, cause, _DOWNLOAD)
    if compressed and needed > DEFLATE_CEILING * status.st_size:
        cause = f"promises {needed:,} bytes, more than its {status.st_size:,} bytes can hold"
        raise BadInput(path, cause, _DOWNLOAD)
    orientation = _orientation(affine)
    order_zyx = np.argsort(orientation[:, 0])
    z, y, x = (shape[axis] for axis in order_zyx)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[order_zyx]
    spacing_mm = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    return Scan(path, head, dtype, shape, slope, inter, affine, (z, y, x), spacing_mm)


def write_like(scan: Scan, stored: Stored, path: Path, *, overwrite: bool = False) -> None:
    """Writes stored values behind the header of a scan, byte for byte.

    The file is compressed where its name ends in .gz; the same voxels give the same bytes.

    Raises:
        CannotWrite: where `path` exists, is the scan itself, or the system refuses.
    """
    _refuse_in_place(scan, path)
    _write(path, scan.head, stored, overwrite=overwrite)


def write_derived(
    scan: Scan, hu: npt.NDArray[np.float32], path: Path, *, overwrite: bool = False
) -> None:
    """Writes HU on the grid of a scan: its header with a datatype that holds them unscaled.

    int16 where every value is a whole number that it holds, else float32.

    Args:
        scan: gives header and extensions.
        hu: in the order of the file.
        path: of the output.
        overwrite: whether an existing file is replaced.

    Raises:
        CannotWrite: where `path` exists, is the scan itself, or the system refuses.
    """
    _refuse_in_place(scan, path)
    whole = bool((np.rint(hu) == hu).all() and np.abs(hu).max(initial=0) <= 32767)
    order, size = _order_and_size(scan.path, scan.head[:544])
    header = _header(scan.head[:size], order)
    header["datatype"], header["bitpix"] = (4, 16) if whole else (16, 32)
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    head = header.binaryblock + scan.head[size:]
    values = hu.astype(np.dtype(order + ("i2" if whole else "f4")))
    _write(path, head, values, overwrite=overwrite)


def write_hu(path: Path, hu: HU, spacing_mm: SpacingMm, *, overwrite: bool = False) -> None:
    """Writes int16 HU of (Z, Y, X) as a new scan in KiTS19's own axis order.

    Raises:
        CannotWrite: where `path` exists or the system refuses.
    """
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [*(-step for step in spacing_mm), 1.0]
    image = nib.Nifti1Image(hu[:1, :1, :1], affine)
    image.header.set_data_shape(hu.shape)
    image.header.set_xyzt_units("mm")
    block = io.BytesIO()
    image.header["vox_offset"] = 352
    image.header["scl_slope"], image.header["scl_inter"] = 1.0, 0.0
    image.header["magic"] = b"n+1"
    image.header.write_to(block)
    _write(path, block.getvalue().ljust(352, b"\0"), hu, overwrite=overwrite)


def _refuse_in_place(scan: Scan, path: Path) -> None:
    if os.path.exists(path) and os.path.exists(scan.path) and os.path.samefile(path, scan.path):
        raise CannotWrite(path, "is the scan itself", "A scan is never replaced: choose another")


def _write(path: Path, head: bytes, stored: Stored, *, overwrite: bool) -> None:
    with whole_file(path, overwrite=overwrite) as file:
        if path.name.lower().endswith(".gz"):
            # No name and no time within: the same voxels are the same file.
            with gzip.GzipFile("", "wb", 1, file, mtime=0) as compressed:
                _write_voxels(compressed, head, stored)
        else:
            _write_voxels(file, head, stored)


def _write_voxels(file: gzip.GzipFile | BinaryIO, head: bytes, stored: Stored) -> None:
    file.write(head)
    # Fortran order is C order of the transpose; the last axis goes out a piece at a time.
    for piece in stored.T:
        file.write(np.ascontiguousarray(piece).tobytes())


@contextmanager
def _reading(path: Path) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    """A scan's bytes, decompressed; what goes wrong while they are read becomes a refusal."""
    try:
        # The name does not decide: plain files are called .nii.gz and the other way round.
        with gzip.open(path, "rb") if _is_gzip(path) else open(path, "rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _broken_gzip(path, error) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _order_and_size(path: Path, first: bytes) -> tuple[str, int]:
    if not first:
        raise BadInput(path, "is empty", _DOWNLOAD)
    for order in "<>":
        if len(first) >= 348 and struct.unpack_from(f"{order}i", first)[0] == 348:
            if first[344:348] == b"n+1\0":
                return order, 348
            if first[344:348] == b"ni1\0":
                raise BadInput(path, "is one half of a .hdr/.img pair", "Convert it to .nii.gz")
        if len(first) >= 540 and struct.unpack_from(f"{order}i", first)[0] == 540:  # noqa: SIM102
            if first[4:12] == b"n+2\0\r\n\x1a\n":
                return order, 540
    raise BadInput(path, f"is not a NIfTI file: {_what_it_is(first)}", _remedy_for(first))


_SIGNATURES = (
    (b"<", "it looks like a web page"),
    (b"version https://git-lfs", "it is a pointer to a large file that was never fetched"),
    (b"\x89PNG", "it is a PNG picture"),
    (b"NRRD", "it is an NRRD file"),
    (b"ObjectType", "it is a MetaImage header"),
    (b"\xfd7zXZ", "it is xz-compressed"),
    (b"BZh", "it is bzip2-compressed"),
    (b"\x28\xb5\x2f\xfd", "it is zstd-compressed"),
    (b"PK\x03\x04", "it is a zip archive"),
)


def _what_it_is(first: bytes) -> str:
    if first[128:132] == b"DICM":
        return "it is a DICOM slice"
    for signature, name in _SIGNATURES:
        if first.lstrip().startswith(signature):
            return name
    return "its first bytes are no header"


def _remedy_for(first: bytes) -> str:
    if first[128:132] == b"DICM":
        return "Convert the series with dcm2niix"
    return _DOWNLOAD if len(first) < 348 or first.lstrip()[:1] == b"<" else "Convert it to .nii.gz"


def _header(block: bytes, order: str) -> Any:
    kind: Any = nib.Nifti1Header if len(block) == 348 else nib.Nifti2Header
    return kind(block, endianness=order, check=False)


def _head_size(path: Path, header: Any, size: int) -> int:
    offset = float(header["vox_offset"])
    if not math.isfinite(offset) or offset != int(offset) or not size + 4 <= offset <= _MAX_HEAD:
        cause = f"places its voxels at byte {offset:g}"
        raise BadInput(path, cause, "Export it again with a valid vox_offset")
    return int(offset)


def _shape(path: Path, header: Any) -> tuple[int, ...]:
    dim = [int(n) for n in header["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : 1 + max(dim[0], 1)]) < 1:
        raise BadInput(path, f"has impossible dimensions {dim}", "Export it again")
    shape = tuple(dim[1 : 1 + dim[0]])
    if len(shape) < 3 or math.prod(shape[3:]) != 1:
        sizes = " x ".join(map(str, shape))
        raise BadInput(path, f"holds {sizes}, not one 3D volume", "Save one volume a file")
    return shape


def _dtype(path: Path, header: Any, order: str) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in _DTYPES:
        kind = _OTHER_DTYPES.get(code, f"of unknown datatype {code}")
        raise BadInput(path, f"is {kind}, not HU", "Save it as int16 or float32 HU")
    return np.dtype(order + _DTYPES[code])


def _scaling(path: Path, header: Any) -> tuple[float, float]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):  # the standard: not scaled
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(inter)):
        cause = f"scales its voxels by {slope:g} and {inter:g}"
        raise BadInput(path, cause, "Export it again with finite scl_slope and scl_inter")
    return slope, inter


def _affine(path: Path, header: Any) -> npt.NDArray[np.float64]:
    if header["pixdim"][0] not in (-1, 1):  # the standard: taken for 1
        header["pixdim"][0] = 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            affine = np.asarray(header.get_best_affine(), np.float64)
    except Exception as error:  # nibabel raises many kinds here; each means the same to a user
        raise BadInput(path, f"has an unusable orientation: {error}", "Export it again") from error
    singular = not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12
    if singular or not np.isfinite(io_orientation(affine)).all():
        raise BadInput(path, "has an affine that cannot be inverted", "Export it again")
    return affine


def _orientation(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    transform = ornt_transform(io_orientation(affine), axcodes2ornt(CANONICAL))
    return np.asarray(transform, np.float64)


def _broken_gzip(path: Path, error: Exception) -> BadInput:
    if isinstance(error, EOFError):
        return BadInput(path, "its compressed data end early", _DOWNLOAD)
    return BadInput(path, f"its compressed data are damaged ({error})", _DOWNLOAD)


def _unreadable(path: Path, error: OSError) -> BadInput:
    cause = f"cannot be read: {error.strerror or error}"
    return BadInput(path, cause, "Check its name and your rights")
