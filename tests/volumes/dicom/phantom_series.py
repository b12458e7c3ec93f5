"""DICOM series of phantoms, written by pydicom."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
NAME, NUMBER = "Mustermann^Erika", "PID-4711"


def write_series(
    folder: Path, hu: np.ndarray, *, spacing_mm=(3.0, 0.8, 0.7), first_mm=(-20.5, -31.25, -400.0),
    step_mm=None, directions=AXIAL, slope=1.0, inter=-1024.0, series="1.2.3.4", number=2,
    start="slice", compressed=False, each=lambda z, slice_: None, **fields,
) -> list[Path]:  # fmt: skip
    """A series of CT whose slices go from the feet to the head; its files are in another order.

    Args:
        folder: made if it does not exist.
        hu: (Z, Y, X), the lowest slice first.
        spacing_mm: (Z, Y, X).
        first_mm: position of the first pixel of the lowest slice.
        step_mm: from one slice to the next; by default along the normal.
        directions: of a row and of a column.
        slope, inter: HU = slope * stored + inter.
        series: its UID.
        number: of the series.
        start: of the names of the files.
        compressed: whether pixels are compressed by RLE.
        each: changes a slice before it is written.
        fields: further fields.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(directions[:3], directions[3:])
    step = normal * spacing_mm[0] if step_mm is None else np.array(step_mm)
    stored = np.rint((hu - inter) / slope).astype(np.uint16)
    paths = []
    for z, pixels in enumerate(stored):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{start}{(7 * z) % 101:03d}.dcm"
        slice_ = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        slice_.PatientName, slice_.PatientID = NAME, NUMBER
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = "1.2.3", series
        slice_.SeriesNumber, slice_.InstanceNumber, slice_.Modality = number, z + 1, "CT"
        slice_.SeriesDescription = f"thorax of {NAME}"
        slice_.Rows, slice_.Columns = pixels.shape
        slice_.PixelSpacing = [spacing_mm[1], spacing_mm[2]]
        slice_.SliceThickness = spacing_mm[0]
        slice_.ImageOrientationPatient = list(directions)
        slice_.ImagePositionPatient = [round(float(mm), 5) for mm in first_mm + z * step]
        slice_.RescaleSlope, slice_.RescaleIntercept = slope, inter
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 12, 11
        slice_.PixelRepresentation, slice_.SamplesPerPixel = 0, 1
        slice_.PhotometricInterpretation = "MONOCHROME2"
        for name, value in fields.items():
            setattr(slice_, name, value)
        slice_.PixelData = pixels.tobytes()
        if pydicom.__version_info__[0] < "3":
            slice_.is_little_endian, slice_.is_implicit_VR = True, False
        each(z, slice_)
        if compressed:
            slice_.compress(RLELossless)
        pydicom.dcmwrite(path, slice_, **_WHOLE)
        paths.append(path)
    return paths


_WHOLE = (
    {"write_like_original": False}
    if pydicom.__version_info__[0] < "3"
    else {"enforce_file_format": True}
)
