"""Headers: a NIfTI file is checked by its first bytes, before any voxel is allocated."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import numpy.typing as npt

from volumes.errors import BadInput
from volumes.nifti.array_axes import doubts, is_placed, renamed
from volumes.nifti.checked_stream import DOWNLOAD
from volumes.nifti.orientation import Affine, read_affine
from volumes.volume import Shape, SpacingMm

_DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8",
    256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_OTHER_DTYPES = {
    0: "unknown", 1: "one bit a voxel", 32: "complex", 128: "a colour image (RGB)",
    1536: "128-bit float", 1792: "complex", 2048: "complex", 2304: "a colour image (RGBA)",
}  # fmt: skip
_MAX_HEAD = 64 * 2**20
_EXPORT = "Export it again"


@dataclass(frozen=True)
class Header:
    """The header of a NIfTI file.

    Attributes:
        head: all bytes before the first voxel: header, extensions and the bytes between them. The
            head of a .hdr/.img pair is converted to that of a single file.
        order: of the bytes: "<" or ">".
        offset: of the first voxel in the file that holds the voxels.
        shape: of the stored array, all axes; the volume of a 2D file has (X, Y, 1).
        dtype: of the stored values, with byte order.
        slope, inter: HU = slope * stored + inter.
        affine: (4, 4), stored index -> RAS millimetres, whatever the unit of the header.
        placed: whether the header gives an orientation and an origin.
        warnings: messages about oddities.
    """

    head: bytes
    order: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    slope: float
    inter: float
    affine: Affine
    placed: bool
    warnings: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize

    def derived(self, code: str) -> bytes:
        """The head of a file with unscaled HU of another datatype, "i2" or "f4"."""
        block = _parsed(self.head)
        block["datatype"], block["bitpix"] = {"i2": (4, 16), "f4": (16, 32)}[code]
        block["scl_slope"], block["scl_inter"] = 1.0, 0.0
        return bytes(block.binaryblock) + self.head[len(block.binaryblock) :]

    def volume(self, path: Path, chosen: int | None) -> Header:
        """The header of one volume of a file. A 2D file is a volume of one slice.

        Args:
            path: of the file, for messages.
            chosen: index of the volume, from 0; None if the file must hold exactly one.

        Raises:
            BadInput: if the file lacks that volume, or has several and none is chosen; if it
                holds a line of values, or vectors.
        """
        count = math.prod(self.shape[3:])
        sizes = " x ".join(map(str, self.shape))
        if len(self.shape) < 2:
            cause = f"holds a line of {sizes} values, not one 3D volume"
            raise BadInput(path, cause, "Save a slice or a volume")
        if math.prod(self.shape[4:]) != 1:
            cause = f"holds vectors ({sizes}), not one 3D volume of HU"
            raise BadInput(path, cause, "Save one component per file")
        if count > 1 and chosen is None:
            cause = f"holds {count:,} volumes, not one 3D volume"
            raise BadInput(path, cause, f"Choose one with --volume 0 to --volume {count - 1}")
        if not 0 <= (chosen or 0) < count:
            cause = f"has no volume {chosen}: it holds {count:,}, counted from 0"
            raise BadInput(path, cause, "Choose another --volume")
        if len(self.shape) == 2:
            return replace(self, shape=(*self.shape, 1))
        if count == 1:
            return self
        block = _parsed(self.head)
        block["dim"][4] = 1
        start = self.offset + (chosen or 0) * self.nbytes // count
        head = bytes(block.binaryblock) + self.head[len(block.binaryblock) :]
        return replace(self, head=head, offset=start, shape=(*self.shape[:3], 1))

    def with_axes(self, axes: str | None) -> Header:
        """The header of one volume whose stored axes the user names; warns of a made-up geometry.

        Args:
            axes: such as "ZYX", in the order of the file; None takes those of the header.
        """
        odd = doubts(self.affine, self.shape[:3], axes, placed=self.placed)
        return replace(self, affine=renamed(self.affine, axes), warnings=(*self.warnings, *odd))


class Bytes(Protocol):
    """The bytes of a file from its first one, on disk or in memory."""

    @property
    def path(self) -> Path: ...  # noqa: D102 (of the file, for messages)

    def read(self, count: int) -> bytes: ...  # noqa: D102 (fewer at the end)


def read_header(stream: Bytes, *, pair: bool = False) -> Header:
    """Reads and checks the header of a NIfTI file.

    Args:
        stream: the file from its first byte; for a pair, the .hdr.
        pair: whether the voxels are in a separate file.

    Raises:
        BadInput: if it is not a NIfTI header, or is inconsistent.
    """
    path = stream.path
    first = stream.read(544)
    order, size = _order_and_size(path, first, pair=pair)
    block = _parsed(first[:size], order)
    offset = _offset(path, block, 0 if pair else size + 4)
    if pair:
        rest = first[size:] + stream.read(_MAX_HEAD)
        head = _as_single(block, rest)
    else:
        head = first[:offset] + stream.read(max(offset - len(first), 0))
        if len(head) < offset:
            cause = f"ends after {len(head):,} bytes, but its voxels begin at {offset:,}"
            raise BadInput(path, cause, DOWNLOAD)
    _check_extensions(path, head[size:], order)
    shape = _shape(path, block)
    slope, inter = _scaling(path, block)
    dtype, notes = _dtype(path, block, order, (slope, inter))
    affine, odd = read_affine(path, block)
    declared = max(int(block["sform_code"]), int(block["qform_code"])) > 0
    placed = is_placed(affine, declared=declared)
    odd = [*notes, *odd]
    return Header(head, order, offset, shape, dtype, slope, inter, affine, placed, tuple(odd))


def new_head(shape: Shape, spacing_mm: SpacingMm, dtype: npt.DTypeLike = np.int16) -> bytes:
    """The head of a new file of HU (Z, Y, X) in the axis order of KiTS19."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [*(-step for step in spacing_mm), 1.0]
    return placed_head(shape, affine, dtype, code=2)


def placed_head(
    stored_shape: Shape, affine: Affine, dtype: npt.DTypeLike,
    scaling: tuple[float, float] = (1.0, 0.0), *, code: int = 1,
) -> bytes:  # fmt: skip
    """The head of a new file without any text.

    Args:
        stored_shape: in the order of the file.
        affine: (4, 4), stored index -> RAS millimetres.
        dtype: of the stored values.
        scaling: slope and intercept: HU = slope * stored + intercept.
        code: of the affine: 1 for the scanner's coordinates, 2 for aligned ones.
    """
    made: Any = nib.Nifti1Header(endianness="<")
    made.set_data_shape(stored_shape)
    made.set_data_dtype(dtype)
    made.set_sform(affine, code)
    made.set_qform(affine, 0)
    made.set_xyzt_units("mm")
    made["vox_offset"] = 352
    made["scl_slope"], made["scl_inter"] = scaling
    made["magic"] = b"n+1"
    return bytes(made.binaryblock).ljust(352, b"\0")


def refuse_other_dtype(path: Path, dtype: np.dtype[Any]) -> None:
    """Refuses voxels of a datatype that no NIfTI scan has.

    Raises:
        BadInput: naming it.
    """
    if dtype.str[1:] not in _DTYPES.values():
        raise BadInput(path, f"is {dtype.name}, not HU", "Convert it to int16 or float32 HU")


def _order_and_size(path: Path, first: bytes, *, pair: bool) -> tuple[str, int]:
    if not first:
        raise BadInput(path, "is empty", DOWNLOAD)
    for order in "<>":
        said = struct.unpack_from(f"{order}i", first)[0] if len(first) >= 348 else 0
        if said == 348:
            magic, single, half, size = first[344:348], b"n+1\0", b"ni1\0", 348
        elif said == 540 and len(first) >= 540:
            magic, single, half, size = first[4:12], b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n", 540
        else:
            continue
        if magic == (half if pair else single):
            return order, size
        if magic in (single, half):
            cause = "is a single-file NIfTI" if pair else "is one half of a .hdr/.img pair"
            remedy = "Name it .nii" if pair else "Name the pair by its .hdr or .img"
            raise BadInput(path, cause, remedy)
    raise BadInput(path, f"is not a NIfTI file: {_what_it_is(first)}", _remedy_for(first))


_ANNEXED = b"/annex/objects/"
_SIGNATURES = (
    (b"<", "it looks like a web page"),
    (b"\xef\xbb\xbf<", "it looks like a web page"),
    (b"version https://git-lfs", "it is a Git LFS pointer to a file that was not fetched"),
    (b"\x89PNG", "it is a PNG picture"),
    (b"\xff\xd8\xff", "it is a JPEG picture"),
    (b"II*\0", "it is a TIFF picture"),
    (b"MM\0*", "it is a TIFF picture"),
    (b"%PDF", "it is a PDF document"),
    (b"\x89HDF", "it is an HDF5 file, such as MINC or MATLAB 7.3"),
    (b"MATLAB", "it is a MATLAB file"),
    (b"\x93NUMPY", "it is a numpy array"),
    (b"NRRD", "it is an NRRD file"),
    (b"ObjectType", "it is a MetaImage header"),
    (b"\xfd7zXZ", "it is xz-compressed"),
    (b"BZh", "it is bzip2-compressed"),
    (b"\x28\xb5\x2f\xfd", "it is zstd-compressed"),
    (b"\x04\x22\x4d\x18", "it is lz4-compressed"),
    (b"\x1f\x9d", "it is compressed by compress"),
    (b"\x1f\x8b", "it is gzip-compressed twice"),
    (b"PK\x03\x04", "it is a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive"),
    (b"Rar!", "it is a RAR archive"),
)
_TAR = slice(257, 262), b"ustar"


def _what_it_is(first: bytes) -> str:
    if first[128:132] == b"DICM":
        return "it is a DICOM slice"
    if first[_TAR[0]] == _TAR[1]:
        return "it is a tar archive"
    if _ANNEXED in first[:256]:
        return "it is a git-annex pointer to a file that was not fetched"
    for signature, name in _SIGNATURES:
        if first.lstrip().startswith(signature):
            return name
    sizes = (first[:4], first[3::-1])
    if struct.pack("<i", 348) in sizes and first[344:348] == bytes(4):
        return "it is an Analyze 7.5 header"
    return "its first bytes are not a header"


def _remedy_for(first: bytes) -> str:
    if first[128:132] == b"DICM":
        return "Convert the series with dcm2niix"
    if _ANNEXED in first[:256]:
        return "Fetch it with `git annex get` or `datalad get`"
    if first.startswith(b"version https://git-lfs"):
        return "Fetch it with `git lfs pull`"
    if any(word in _what_it_is(first) for word in ("compressed", "archive")):
        return "Decompress it first"
    lost = len(first) < 348 or "web page" in _what_it_is(first)
    return DOWNLOAD if lost else "Convert it to .nii.gz"


def _parsed(block: bytes, order: str | None = None) -> Any:
    size = struct.unpack_from("<i", block)[0]
    order = order or ("<" if size in (348, 540) else ">")
    kind: Any = nib.Nifti2Header if 540 in (size, struct.unpack_from(">i", block)[0]) else None
    kind = kind or nib.Nifti1Header
    return kind(block[: kind.sizeof_hdr], endianness=order, check=False)


def _offset(path: Path, block: Any, least: int) -> int:
    offset = float(block["vox_offset"])
    if not math.isfinite(offset) or offset != int(offset) or not least <= offset <= _MAX_HEAD:
        cause = f"places its voxels at byte {offset:g}"
        raise BadInput(path, cause, f"{_EXPORT} with a valid vox_offset")
    return int(offset)


def _as_single(block: Any, rest: bytes) -> bytes:
    """The head of a pair's .hdr, converted to that of a single file."""
    rest = rest if rest[:1] not in (b"", b"\0") else bytes(4)
    size = len(block.binaryblock)
    single = block.copy()
    single["magic"] = block.single_magic
    rest += bytes(-(size + len(rest)) % 16)
    single["vox_offset"] = size + len(rest)
    return bytes(single.binaryblock) + rest


def _check_extensions(path: Path, between: bytes, order: str) -> None:
    """Refuses extensions that extend beyond the first voxel.

    A header that announces extensions may have none. The bytes after the last one are not checked.
    """
    if between[:1] in (b"", b"\0"):
        return
    at = 4
    while at + 8 <= len(between):
        size = struct.unpack_from(f"{order}i", between, at)[0]
        if size == 0:
            return
        if not 8 <= size <= len(between) - at:
            cause = f"has an extension of {size:,} bytes, but only {len(between) - at:,} fit"
            raise BadInput(path, cause, DOWNLOAD)
        at += size


def _shape(path: Path, block: Any) -> tuple[int, ...]:
    dim = [int(n) for n in block["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : 1 + max(dim[0], 1)]) < 1:
        raise BadInput(path, f"has impossible dimensions {dim}", _EXPORT)
    return tuple(dim[1 : 1 + dim[0]])


def _dtype(
    path: Path, block: Any, order: str, scaling: tuple[float, float]
) -> tuple[np.dtype[Any], list[str]]:
    code = int(block["datatype"])
    if code not in _DTYPES:
        kind = _OTHER_DTYPES.get(code, f"of unknown datatype {code}")
        raise BadInput(path, f"is {kind}, not HU", "Save it as int16 or float32 HU")
    dtype, bits = np.dtype(order + _DTYPES[code]), int(block["bitpix"])
    found = []
    if bits != 8 * dtype.itemsize:
        found.append(f"declares {bits} bits per voxel and {dtype.name}: {dtype.name} is used")
    if dtype.itemsize == 1 and scaling[0] == 1:
        low, high = (end + scaling[1] for end in (np.iinfo(dtype).min, np.iinfo(dtype).max))
        found.append(f"is {dtype.name} without a slope: HU beyond {low:g} to {high:g} are lost")
    return dtype, found


def _scaling(path: Path, block: Any) -> tuple[float, float]:
    slope, inter = float(block["scl_slope"]), float(block["scl_inter"])
    if slope == 0 or math.isnan(slope):  # NIfTI standard: not scaled
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(inter)):
        cause = f"scales its voxels by {slope:g} and {inter:g}"
        raise BadInput(path, cause, f"{_EXPORT} with finite scl_slope and scl_inter")
    return slope, inter
