"""Mutated headers: read correctly or refused."""

from __future__ import annotations

import gzip
import random
import re
import resource
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.gates.catalogue import HU, content
from volumes.errors import BadInput
from volumes.nifti import open_scan
from volumes.nifti.scan import Scan

NOTE = b"\1\0\0\0" + struct.pack("<ii", 32, 6) + b"a private note, 24 bytes"
GOOD = [
    content(),
    content(order=">"),
    content(code="f4"),
    content(code="u2", scl_inter=-1024.0, sform_code=0),
    content(between=NOTE),
    content(HU[..., None]),
    content(HU[0]),
    content(kind=nib.Nifti2Header),
    content(kind=nib.Nifti2Header, order=">", code="f8"),
]
NUMBERS = (
    0, 1, -1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 348, 352, 540, 32767, -32768, 2**31 - 1, -(2**31)
)  # fmt: skip
FLOATS = (0.0, -1.0, 1e-30, 1e30, 3e38, 352.5, float("nan"), float("inf"), -float("inf"))
MEMORY_BYTES = 2**29
SECONDS = 2.0


def _mutated(good: bytes, draw: random.Random) -> bytes:
    """A file whose header is damaged in some places; the voxels are unchanged."""
    block = bytearray(good)
    head = (
        544 if 540 in (*struct.unpack_from("<i", block), *struct.unpack_from(">i", block)) else 352
    )
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        kind = draw.randrange(5)
        if kind == 0:
            block[draw.randrange(head)] = draw.randrange(256)
        elif kind == 1:
            block[draw.randrange(head)] ^= 1 << draw.randrange(8)
        elif kind == 2:  # dim, datatype, codes: whole numbers of two bytes
            place = draw.choice((*range(40, 56, 2), 70, 72, 252, 254))
            number = max(min(draw.choice(NUMBERS), 32767), -32768)
            struct.pack_into(draw.choice("<>") + "h", block, place, number)
        elif kind == 3:  # pixdim, vox_offset, scaling, quaternion, sform
            place = draw.choice((*range(76, 120, 4), *range(256, 328, 4)))
            struct.pack_into(draw.choice("<>") + "f", block, place, draw.choice(FLOATS))
        elif head == 544:  # NIfTI-2 keeps them elsewhere, and wider
            place = draw.choice((*range(16, 80, 8), *range(104, 192, 8), *range(352, 496, 8)))
            form, odd = draw.choice((("q", NUMBERS), ("d", FLOATS)))
            struct.pack_into(draw.choice("<>") + form, block, place, draw.choice(odd))
        else:  # fields change places
            one, other = draw.randrange(head - 8), draw.randrange(head - 8)
            block[one : one + 4], block[other : other + 4] = (
                block[other : other + 4], block[one : one + 4],
            )  # fmt: skip
    if draw.random() < 0.1:
        del block[draw.randrange(len(block)) :]
    return bytes(block)


@contextmanager
def _little_memory() -> Iterator[None]:
    """Limits memory: a larger allocation raises a MemoryError, which is no refusal."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, before[1])
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _judge(scan: Scan) -> None:
    """Checks a scan that was accepted."""
    assert len(scan.shape) == 3
    assert min(scan.shape) > 0
    assert np.isfinite(scan.affine).all()
    assert np.isfinite(np.linalg.inv(scan.affine)).all()
    assert np.isfinite(scan.spacing_mm).all()
    assert min(scan.spacing_mm) > 0
    assert sorted(scan.axes.translate(str.maketrans("RPS", "LAI"))) == ["A", "I", "L"]
    # No header is read as voxels, which nibabel would.
    assert scan.header.offset == len(scan.head) >= 352
    stored = scan.read()
    hu = scan.hu(stored)
    assert stored.shape == scan.stored_shape
    assert np.mean(~np.isfinite(hu)) <= 0.01
    canonical = scan.read_hu()
    assert canonical.shape == scan.shape


def _same_as_nibabel(scan: Scan, path: Path) -> bool:
    """Whether nibabel reads the file; if so, it must read the same."""
    try:
        image = nib.load(path)
        voxels = np.asarray(image.dataobj)
    except Exception:
        return False
    if voxels.ndim == 2:
        voxels = voxels[..., None]
    np.testing.assert_array_equal(scan.hu(scan.read()), voxels.astype(np.float32))
    np.testing.assert_allclose(scan.affine, image.affine, rtol=1e-6, atol=1e-6)
    return True


@pytest.mark.gate("G8")
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_header_is_read_correctly_or_refused(
    faults, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")  # nibabel tells of every header that it mends
    refused = compared = odd = 0
    told: dict[int, str] = {}
    times = faults.times(push=10_000, soak=100_000)
    with _little_memory():
        for turn in range(times):
            draw = faults.random(turn)
            block = _mutated(GOOD[turn % len(GOOD)], draw)
            path = tmp_path / ("scan.nii.gz" if turn % 5 == 0 else "scan.nii")
            path.write_bytes(gzip.compress(block, 1, mtime=0) if turn % 5 == 0 else block)
            began = time.process_time()
            try:
                scan = open_scan(path).verified()
            except BadInput as refusal:
                refused += 1
                told[turn] = str(refusal)
            else:
                try:
                    _judge(scan)
                    odd += bool(scan.warnings)
                    if not scan.warnings and path.suffix == ".nii":
                        compared += _same_as_nibabel(scan, path)
                except AssertionError as error:
                    raise AssertionError(f"turn {turn}: {scan}") from error
            assert time.process_time() - began < SECONDS, turn
            faults.handled()
    for turn, words in told.items():
        assert re.fullmatch(
            rf"{re.escape(str(tmp_path))}/scan\.nii(\.gz)?: .{{10,200}}\.", words
        ), turn
    # Of neither kind there are so few that nothing was shown.
    assert refused > times / 4
    assert compared > times / 20
    assert odd > times / 100
