"""Images: scans that are in memory, as arrays of HU or as images of nibabel.

They are checked as files are, and read as files of the same header and voxels would be.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from volumes.errors import BadInput
from volumes.nifti.header import new_head, read_header, refuse_other_dtype
from volumes.nifti.opening import scan_of_header
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.nifti.scan import Scan, Stored
from volumes.volume import SpacingMm

NiftiImage = nib.Nifti1Image  # or Nifti2Image, which inherits from it

_ARRAY, _IMAGE = Path("array"), Path("image")  # in messages


def scan_of_array(hu: npt.NDArray[Any], spacing_mm: SpacingMm, trust: ReadOptions = STRICT) -> Scan:
    """An array of HU as a scan.

    Args:
        hu: (Z, Y, X), Z from superior to inferior, Y from anterior to posterior, X from the
            patient's right to left. It must not change while the scan is used.
        spacing_mm: distance of neighbouring voxels along (Z, Y, X).
        trust: whether values that do not look like HU are accepted.

    Raises:
        BadInput: if it is no volume of plausible HU, or a spacing is not positive.

    Example:
        >>> noise = np.random.default_rng(0).normal(-300, 400, (4, 8, 8))
        >>> scan = scan_of_array(noise.astype(np.int16), (3.0, 0.8, 0.7))
        >>> scan.shape, scan.dtype.name, [round(step, 2) for step in scan.spacing_mm]
        ((4, 8, 8), 'int16', [3.0, 0.8, 0.7])
    """
    if hu.ndim != 3 or not hu.size:
        cause = f"has the shape {' x '.join(map(str, hu.shape)) or 'of one value'}"
        raise BadInput(_ARRAY, cause, "Give the HU of one volume, (Z, Y, X)")
    if len(spacing_mm) != 3 or not all(math.isfinite(mm) and mm > 0 for mm in spacing_mm):
        cause = f"is {tuple(spacing_mm)}"
        raise BadInput("spacing_mm", cause, "Give three positive numbers, along (Z, Y, X)")
    refuse_other_dtype(_ARRAY, hu.dtype)
    z, y, x = hu.shape
    return _scan(_ARRAY, new_head((z, y, x), spacing_mm, hu.dtype), hu, trust)


def scan_of_image(image: Any, trust: ReadOptions = STRICT) -> Scan:
    """An image of nibabel as a scan. Its stored values are taken as they are, with their scaling.

    Raises:
        BadInput: if it is no NIfTI image of one volume of plausible HU.
    """
    if not isinstance(image, nib.Nifti1Pair):
        cause = f"is of the kind {type(image).__name__}, not NIfTI"
        raise BadInput(_IMAGE, cause, "Convert it with nibabel.Nifti1Image.from_image")
    proxy: Any = image.dataobj
    scaled = nib.is_proxy(proxy) and hasattr(proxy, "get_unscaled")
    stored = np.asarray(proxy.get_unscaled() if scaled else proxy)
    refuse_other_dtype(_IMAGE, stored.dtype)
    scaling = (float(proxy.slope), float(proxy.inter)) if scaled else (1.0, 0.0)
    return _scan(_IMAGE, _head_of(image, stored, scaling), stored, trust)


def image_like(scan: Scan, stored: Stored) -> NiftiImage:
    """The image of nibabel that a file of this scan's header and these stored values gives."""
    kind = nib.Nifti2Image if scan.head[:4] in _NIFTI2 else nib.Nifti1Image
    return kind.from_bytes(scan.head + stored.tobytes(order="F"))


_NIFTI2 = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # 540, in both byte orders


def _head_of(image: Any, stored: npt.NDArray[Any], scaling: tuple[float, float]) -> bytes:
    """The head of a single file that would hold an image of nibabel.

    Args:
        image: NIfTI-1 or NIfTI-2. Its affine counts, where its header has another.
        stored: its stored values.
        scaling: slope and intercept.
    """
    kind: Any = nib.Nifti2Header if image.header.sizeof_hdr == 540 else nib.Nifti1Header
    block = kind(image.header.binaryblock, endianness=image.header.endianness, check=False)
    block.extensions.extend(image.header.extensions)
    block["magic"], block["vox_offset"] = block.single_magic, 0
    block.set_data_shape(stored.shape)
    block.set_data_dtype(stored.dtype)
    block["scl_slope"], block["scl_inter"] = scaling
    if image.affine is not None and not np.allclose(image.affine, block.get_best_affine()):
        block.set_sform(image.affine, "aligned")
        block.set_qform(image.affine, "unknown")
    file = io.BytesIO()
    block.write_to(file)
    return file.getvalue().ljust(int(block["vox_offset"]), b"\0")


class _InMemory:
    """The bytes of a head in the place of a file."""

    def __init__(self, path: Path, head: bytes) -> None:
        self.path, self._file = path, io.BytesIO(head)

    def read(self, count: int) -> bytes:
        return self._file.read(count)


def scan_of_head(path: Path, head: bytes, trust: ReadOptions) -> Scan:
    """A scan of the header of a single file, without voxels.

    Args:
        path: for messages.
        head: all bytes before the first voxel.
        trust: options for reading it.

    Raises:
        BadInput: if the header is inconsistent, or not that of one volume.
    """
    whole = read_header(_InMemory(path, head))
    return scan_of_header(path, whole.volume(path, trust.volume).with_axes(trust.axes), trust)


def _scan(path: Path, head: bytes, stored: Stored, trust: ReadOptions) -> Scan:
    scan = scan_of_head(path, head, trust)
    return scan.holding(stored.astype(scan.dtype, copy=False))
