"""How often the voxels of a scan are read to be stored."""

from pathlib import Path

import pytest

from volumes import nifti


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The scans whose voxels are read from now on."""
    read, found = nifti.Scan.read_voxels, []

    def counting(scan):
        found.append(scan.path)
        return read(scan)

    monkeypatch.setattr(nifti.Scan, "read_voxels", counting)
    return found
