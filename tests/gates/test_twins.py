"""Scans in other files: whatever the file, the voxels tell."""

from __future__ import annotations

import gzip
from pathlib import Path
from random import Random
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.gates.ledger import Faults
from volumes.dataset import Case
from volumes.dataset.store import Store

AFFINE = np.array([[-0.8, 0, 0, 9], [0, -0.7, 0, 8], [0, 0, 3, 7], [0, 0, 0, 1.0]])
# Datatype, slope and intercept that hold every HU of the scans below.
STORED = [
    (np.int16, 1, 0), (np.uint16, 1, -4096), (np.int32, 1, 0), (np.float32, 1, 0),
    (np.float64, 1, 0), (np.int16, 0.5, 0), (np.uint16, 0.25, -4096), (np.float32, 0.1, 5),
    (np.int32, -1, 0), (np.float64, 1 / 3, -1),
]  # fmt: skip


def exported(folder: Path, hu: np.ndarray, draw: Random) -> Path:
    """A scan, (X, Y, Z) HU, in a file of some kind."""
    dtype, slope, inter = draw.choice(STORED)
    values = (hu.astype(float) - inter) / slope
    values = np.rint(values) if np.dtype(dtype).kind in "iu" else values
    kinds: list[Any] = [nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair]
    kind = draw.choice(kinds)
    image = kind(values.astype(dtype), AFFINE)
    turn = np.array([[axis, draw.choice([1, -1])] for axis in draw.sample(range(3), 3)])
    image = image.as_reoriented(turn)
    order = draw.choice("<>")
    header = type(image.header)(endianness=order)
    for name in ("dim", "pixdim", "bitpix", "datatype"):
        header[name] = image.header[name]
    image = kind(np.asarray(image.dataobj), image.affine, header)
    image.header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    image.header.set_slope_inter(slope, inter)
    image.header["descrip"] = draw.randbytes(draw.randrange(80))
    image.header.set_xyzt_units(draw.choice(["mm", "unknown"]), draw.choice(["sec", "unknown"]))
    if kind is nib.Nifti1Pair:
        path = folder / "copy.hdr"
        nib.save(image, path)
        return path
    path = folder / f"copy.nii{draw.choice(['', '.gz'])}"
    nib.save(image, path.with_suffix("") if path.suffix == ".gz" else path)
    if path.suffix == ".gz":
        plain = path.with_suffix("")
        path.write_bytes(gzip.compress(plain.read_bytes(), draw.randrange(10), mtime=0))
        plain.unlink()
    return path


@pytest.mark.gate("G16")
def test_a_scan_is_recognised_in_any_file_and_no_other_is(faults: Faults, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    hu = np.random.default_rng(faults.seed).integers(-900, 1500, (9, 8, 7)).astype(np.int16)
    hu[0], hu[:, 0] = -2000, -3024  # padding
    first = tmp_path / "first.nii.gz"
    nib.save(nib.Nifti1Image(hu, AFFINE), first)
    wanted = store.volume(Case("first", first))
    for n in range(faults.times(push=120, soak=3000)):
        draw = faults.random(n)
        folder = tmp_path / str(n)
        folder.mkdir()
        same = store.volume(Case("copy", exported(folder, hu, draw)))
        np.testing.assert_allclose(same.hu, wanted.hu, atol=0.01)
        assert same.voxels_sha256 == wanted.voxels_sha256, n
        other = hu.copy()
        other[draw.randrange(1, 9), draw.randrange(1, 8), draw.randrange(7)] += draw.choice([-1, 1])
        (folder / "other").mkdir()
        another = store.volume(Case("other", exported(folder / "other", other, draw)))
        assert another.voxels_sha256 != wanted.voxels_sha256, n
        faults.handled()
