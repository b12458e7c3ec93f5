"""Opening: a NIfTI file becomes a scan once its header and its size are plausible."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from volumes.errors import BadInput
from volumes.nifti.checked_stream import DEFLATE_CEILING, DOWNLOAD, Stream, open_stream
from volumes.nifti.header import Header, read_header
from volumes.nifti.length_unit import refuse_too_long
from volumes.nifti.orientation import orientation, spacing_mm
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.nifti.scan import Scan


def open_scan(path: str | Path, trust: ReadOptions = STRICT) -> Scan:
    """Opens a NIfTI file and checks its header. No voxel is read or allocated.

    Args:
        path: of a .nii or .nii.gz file, or of either file of a .hdr/.img pair.
        trust: options for reading it.

    Raises:
        BadInput: if the file is not a NIfTI scan of one volume, or its header is inconsistent.
    """
    path = Path(path)
    files = _halves(path)
    with open_stream(files[0]) as stream:
        whole = read_header(stream, pair=len(files) > 1)
        stamps, voxels = [stream.stamp], stream
    if len(files) > 1:
        with open_stream(files[1]) as voxels:
            stamps.append(voxels.stamp)
    header = whole.volume(path, trust.volume).with_axes(trust.axes)
    promised = whole.offset + whole.nbytes
    _refuse_impossible(voxels, promised)
    if whole.nbytes > trust.most_bytes:
        cause = f"holds {whole.nbytes / 2**30:.1f} GiB of voxels, more than {trust.gib:g}"
        raise BadInput(path, cause, "Raise --max-gib if this is intended")
    odd = (*_misnamed(voxels), *header.warnings)
    return replace(
        scan_of_header(path, header, trust), files=files, stamps=tuple(stamps), promised=promised,
        warnings=odd,
    )  # fmt: skip


def scan_of_header(path: Path, header: Header, trust: ReadOptions) -> Scan:
    """A scan of no file, with a checked header of one volume.

    Raises:
        BadInput: if it is longer than a body.
    """
    order_zyx = np.argsort(orientation(header.affine)[:, 0])
    z, y, x = (header.shape[axis] for axis in order_zyx)
    apart_mm = spacing_mm(header.affine)
    refuse_too_long(path, apart_mm, (z, y, x))
    return Scan(
        path, header, (z, y, x), apart_mm, trust, (), (), header.nbytes, header.warnings
    )  # fmt: skip


def _halves(path: Path) -> tuple[Path, ...]:
    """The file itself, or the header file and voxel file of its pair."""
    for ending, other in ((".hdr", ".img"), (".img", ".hdr")):
        for packed in ("", ".gz"):
            if path.name.lower().endswith(ending + packed):
                return _pair(path, path.name[: -len(ending + packed)], ending, other)
    return (path,)


def _pair(path: Path, stem: str, ending: str, other: str) -> tuple[Path, ...]:
    names = [stem + name + packed for name in (other, other.upper()) for packed in ("", ".gz")]
    beside = next(
        (path.with_name(name) for name in names if os.path.lexists(path.with_name(name))), None
    )
    if beside is None:
        cause = f"is one half of a .hdr/.img pair, but {stem}{other} does not exist"
        raise BadInput(path, cause, "Put the pair into one folder")
    return (path, beside) if ending == ".hdr" else (beside, path)


def _refuse_impossible(voxels: Stream, promised: int) -> None:
    if not voxels.compressed and voxels.size < promised:
        cause = f"ends after {voxels.size:,} bytes, but its header declares {promised:,}"
        raise BadInput(voxels.path, cause, DOWNLOAD)
    if voxels.compressed and promised > DEFLATE_CEILING * voxels.size:
        cause = f"declares {promised:,} bytes, more than its {voxels.size:,} bytes can hold"
        raise BadInput(voxels.path, cause, DOWNLOAD)


def _misnamed(voxels: Stream) -> list[str]:
    name = voxels.path.name.lower()
    if name.endswith(".gz") and not voxels.compressed:
        return ["is not compressed, although its name ends in .gz"]
    if voxels.compressed and name.endswith((".nii", ".img")):
        return ["is gzip-compressed, although its name does not end in .gz"]
    return []
