"""NIfTI: reading, checking and writing scans."""

from volumes.nifti.image import NiftiImage, image_like, scan_of_array, scan_of_image
from volumes.nifti.opening import open_scan
from volumes.nifti.scan import Scan, Stored, bits
from volumes.nifti.writer import (
    write_derived,
    write_hu,
    write_like,
    writing_derived,
    writing_like,
)

__all__ = [
    "NiftiImage",
    "Scan",
    "Stored",
    "bits",
    "image_like",
    "open_scan",
    "scan_of_array",
    "scan_of_image",
    "write_derived",
    "write_hu",
    "write_like",
    "writing_derived",
    "writing_like",
]
