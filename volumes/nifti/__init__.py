"""NIfTI: reading, checking and writing scans."""

from volumes.nifti.scan import Scan, Stored, bits, open_scan
from volumes.nifti.writer import (
    write_derived,
    write_hu,
    write_like,
    writing_derived,
    writing_like,
)

__all__ = [
    "Scan",
    "Stored",
    "bits",
    "open_scan",
    "write_derived",
    "write_hu",
    "write_like",
    "writing_derived",
    "writing_like",
]
