"""A DICOM series as a scan: voxels and geometry of the series, and nothing else of its headers.

The scan has the header of a new NIfTI file, so that what is written from it is NIfTI. Voxels keep
their stored values and their slope and intercept. Where those differ between slices, voxels are
float32 HU.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from volumes.dicom.folder import is_slice, slices_and_others
from volumes.dicom.slices import Slice, ct_slice, read_fields, refuse_without_pydicom
from volumes.dicom.stack import affine_of, in_order
from volumes.errors import BadInput, listed
from volumes.nifti.checked_stream import open_stream
from volumes.nifti.header import placed_head
from volumes.nifti.image import scan_of_head
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.nifti.scan import Scan, Stored

_SHORTEST = 3  # letters of a name that is looked for in the name of an output


@dataclass(frozen=True)
class Series(Scan):
    """A DICOM series whose headers were checked. Its pixels are read on demand.

    Its SHA-256 is that of an uncompressed NIfTI file of its header and voxels.

    Attributes:
        slices: in the order of the stored array.
        patient: words that identify the patient, in lower case. They are never written.
    """

    slices: tuple[Slice, ...] = field(default=(), repr=False, compare=False)
    patient: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def identifies(self, name: str) -> bool:
        """Whether a name contains a word of the patient's name, or the number."""
        return any(word in name.lower() for word in self.patient)

    def loaded(self) -> Series:
        """The series with its voxels in memory; see `Scan.loaded`."""
        return self if self._content is not None else self.holding(self._pixels())

    def verified(self) -> Series:
        """The series with warnings about its voxels; see `Scan.verified`."""
        return replace(self.loaded(), _content=None)

    def holding(self, stored: Stored) -> Series:
        """The series with these voxels; see `Scan.holding`."""
        held = super().holding(stored)
        assert isinstance(held, Series)
        return held

    def sha256(self) -> str:
        """SHA-256 of an uncompressed NIfTI file of the same header and voxels."""
        if self._content is not None:
            return super().sha256()
        return replace(self, trust=replace(self.trust, hu=True)).loaded().sha256()

    def _read(self) -> tuple[Stored, list[str]]:
        return (self._pixels(), []) if self._content is None else super()._read()

    def _pixels(self) -> Stored:
        stored = np.empty(self.stored_shape, self.dtype, order="F")
        for z, each in enumerate(self.slices):
            pixels = each.pixels()
            if self.dtype.kind == "f":
                pixels = pixels * each.slope + each.inter
            stored[..., z] = pixels.T
        self._refuse_changed()
        return stored


def open_series(path: Path, trust: ReadOptions = STRICT) -> Series:
    """Opens a DICOM series and checks its headers. No pixel is read.

    Args:
        path: of its folder, or of one of its slices in a folder with several series.
        trust: options for reading it.

    Raises:
        BadInput: if pydicom is not installed, the folder holds several series, or the series is no
            CT of one volume with even, straight slices.
    """
    refuse_without_pydicom(path)
    folder = path.parent if is_slice(path) else path
    files, others = slices_and_others(folder)
    chosen = _chosen(path, {file: read_fields(file) for file in files})
    slices = in_order(path, [ct_slice(file, fields) for file, fields in chosen.items()])
    first = slices[0]
    even = len({(each.slope, each.inter) for each in slices}) == 1
    scaling = (first.slope, first.inter) if even else (1.0, 0.0)
    rows, columns = first.shape
    head = placed_head(
        (columns, rows, len(slices)),
        affine_of(path, slices),
        first.dtype if even else np.dtype(np.float32),
        scaling,
    )
    scan = scan_of_head(path, head, trust)
    if scan.nbytes > trust.most_bytes:
        cause = f"holds {scan.nbytes / 2**30:.1f} GiB of voxels, more than {trust.gib:g}"
        raise BadInput(path, cause, "Raise --max-gib if this is intended")
    odd = []
    if others:
        odd.append(f"holds files that are not DICOM: {listed([other.name for other in others])}")
    stamps = []
    for each in slices:
        with open_stream(each.path) as stream:
            stamps.append(stream.stamp)
    known = {name: getattr(scan, name) for name in Scan.__dataclass_fields__}
    known |= {
        "files": tuple(each.path for each in slices),
        "stamps": tuple(stamps),
        "warnings": (*scan.warnings, *odd),
    }
    return Series(**known, slices=tuple(slices), patient=_patient(chosen.values()))


def _chosen(path: Path, read: dict[Path, Any]) -> dict[Path, Any]:
    """The files of one series, with their fields.

    Raises:
        BadInput: if there are several series, and none is chosen.
    """
    groups: dict[str, dict[Path, Any]] = {}
    for file, fields in read.items():
        groups.setdefault(str(fields.SeriesInstanceUID), {})[file] = fields
    if path in read:
        return groups[str(read[path].SeriesInstanceUID)]
    if len(groups) > 1:
        known = sorted(groups.values(), key=len, reverse=True)
        cause = f"holds {len(groups)} series: {listed([_in_words(each) for each in known], '; ')}"
        raise BadInput(path, cause, f"Name one slice of a series, such as {next(iter(known[0]))}")
    return next(iter(groups.values()))


def _in_words(series: dict[Path, Any]) -> str:
    """The modality, kernel, length and first file of a series: no text that names a person."""
    file, fields = next(iter(series.items()))
    kernel = fields.get("ConvolutionKernel")
    kernel = kernel if kernel is None or isinstance(kernel, str) else "/".join(kernel)
    words = [f"{fields.Modality} series {fields.get('SeriesNumber', 'without a number')}"]
    words += [f"kernel {kernel}"] if kernel else []
    words += [f"{len(series)} {'files' if len(series) > 1 else 'file'}"]
    return f"{', '.join(words)} ({file.name})"


def _patient(fields: Iterable[Any]) -> tuple[str, ...]:
    """The words of the patient's name, and the number; none of those whose identity is removed."""
    found: set[str] = set()
    for each in fields:
        if each.get("PatientIdentityRemoved") != "YES":
            found |= set(re.split(r"[\W_]+", str(each.get("PatientName", "")).lower()))
            found.add(str(each.get("PatientID", "")).lower())
    return tuple(sorted(word for word in found if len(word) >= _SHORTEST))
