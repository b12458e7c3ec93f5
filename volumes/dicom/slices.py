"""Slices of a DICOM series: the few fields that are read of each, and its pixels.

Fields that name the patient are read only to keep them out of the names of outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.errors import BadInput

_INSTEAD = "Convert the series with dcm2niix"
_EXTRA = f"Install 'respr-engine[dicom]', or {_INSTEAD[0].lower()}{_INSTEAD[1:]}"
_NEEDED = (
    "SeriesInstanceUID", "Modality", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "PixelRepresentation",
)  # fmt: skip
_OF_CT = (
    "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope",
    "RescaleIntercept",
)  # fmt: skip
_MORE = (
    "SeriesNumber", "ConvolutionKernel", "SliceThickness", "NumberOfFrames", "RescaleType",
    "SamplesPerPixel", "PatientName", "PatientID", "PatientIdentityRemoved",
)  # fmt: skip
_BITS = (8, 16)
_HU = (None, "", "HU", "HU_MOD", "US")  # US: not specified; then the values of the voxels decide


@dataclass(frozen=True)
class Slice:
    """A slice of a CT series.

    Attributes:
        path: of its file.
        shape: rows and columns.
        dtype: of the stored values.
        bits: that are used of each stored value.
        spacing_mm: distance of rows, distance of columns.
        position_mm: (3,) centre of the first pixel: left, posterior, superior of the origin.
        row, column: (3,) directions in which the index of a column, of a row grows.
        slope, inter: HU = slope * stored + inter.
        thickness_mm: None if it is not told.
    """

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    bits: int
    spacing_mm: tuple[float, float]
    position_mm: npt.NDArray[np.float64]
    row: npt.NDArray[np.float64]
    column: npt.NDArray[np.float64]
    slope: float
    inter: float
    thickness_mm: float | None

    def pixels(self) -> npt.NDArray[Any]:
        """(rows, columns) stored values.

        Raises:
            BadInput: if they cannot be decoded.
        """
        try:
            found = _pydicom().dcmread(self.path).pixel_array
        except Exception as error:  # decoders raise whatever they like, with lines of advice
            cause = f"has pixels that cannot be decoded ({type(error).__name__})"
            raise BadInput(self.path, cause, _INSTEAD) from error
        if found.shape != self.shape:
            cause = f"has pixels of the shape {found.shape}, not {self.shape}"
            raise BadInput(self.path, cause, _INSTEAD)
        unused = 8 * self.dtype.itemsize - self.bits  # may hold anything
        return np.asarray((found.astype(self.dtype) << unused) >> unused)


def refuse_without_pydicom(path: Path) -> None:
    """Refuses DICOM where pydicom is not installed.

    Raises:
        BadInput: naming the extra.
    """
    if find_spec("pydicom") is None:
        raise BadInput(path, "is DICOM, which needs pydicom", _EXTRA)


def read_fields(path: Path) -> Any:
    """The fields of a DICOM file that are used here, without pixels.

    Raises:
        BadInput: if the file cannot be read, or lacks a field that every image has.
    """
    library = _pydicom()
    try:
        fields = library.dcmread(
            path, stop_before_pixels=True, specific_tags=[*_NEEDED, *_OF_CT, *_MORE]
        )
    except (OSError, library.errors.InvalidDicomError, ValueError, EOFError) as error:
        raise BadInput(path, f"cannot be read ({type(error).__name__})", _INSTEAD) from error
    for name in _NEEDED[:2]:
        if name not in fields:
            raise BadInput(path, f"has no {name}", _INSTEAD)
    return fields


def ct_slice(path: Path, fields: Any) -> Slice:
    """A slice of CT, from its fields.

    Raises:
        BadInput: if it is no slice of CT in HU with a place in the patient.
    """
    if fields.Modality != "CT":
        cause = f"is of the modality {fields.Modality}, not CT"
        raise BadInput(path, cause, "Name a series of CT")
    if int(fields.get("NumberOfFrames") or 1) > 1:
        raise BadInput(path, "holds several slices in one file (enhanced CT)", _INSTEAD)
    if int(fields.get("SamplesPerPixel") or 1) > 1:
        raise BadInput(path, "is a colour image, not CT", "Name the series of the scan")
    for name in (*_NEEDED, *_OF_CT):
        if fields.get(name) is None:
            remedy = "Name the series of the scan" if name in _OF_CT else _INSTEAD
            raise BadInput(path, f"has no {name}: it is no slice of CT in HU", remedy)
    if fields.get("RescaleType") not in _HU:
        cause = "has values in other units than HU by its RescaleType"
        raise BadInput(path, cause, "Name the series of the scan")
    if fields.BitsAllocated not in _BITS:
        raise BadInput(path, f"has {fields.BitsAllocated} bits a pixel, not 8 or 16", _INSTEAD)
    thickness = fields.get("SliceThickness")
    try:
        directions = np.array(fields.ImageOrientationPatient, float).reshape(2, 3)
        down, right = (float(mm) for mm in fields.PixelSpacing)
        made = Slice(
            path,
            (int(fields.Rows), int(fields.Columns)),
            np.dtype(f"{'i' if fields.PixelRepresentation else 'u'}{fields.BitsAllocated // 8}"),
            int(fields.BitsStored),
            (down, right),
            np.array(fields.ImagePositionPatient, float).reshape(3),
            directions[0],
            directions[1],
            float(fields.RescaleSlope),
            float(fields.RescaleIntercept),
            float(thickness) if thickness else None,
        )
    except (TypeError, ValueError) as error:
        raise BadInput(path, "has a field of a wrong form", _INSTEAD) from error
    numbers = (*made.spacing_mm, *made.position_mm, *directions.ravel(), made.slope, made.inter)
    if not np.isfinite(numbers).all() or min(made.spacing_mm) <= 0 or made.slope == 0:
        raise BadInput(path, "has impossible numbers for its place or its HU", _INSTEAD)
    return made


@cache
def _pydicom() -> Any:
    import pydicom

    # Its warnings would quote the patient's fields.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom
