"""Mutated gzip streams: the voxels that were written, or a refusal."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path

import numpy as np
import pytest

from tests.gates.catalogue import content
from volumes.errors import BadInput
from volumes.nifti import open_scan
from volumes.nifti.read_options import ReadOptions

# Smooth enough to be compressed by every means that deflate has.
Z, Y, X = np.mgrid[:9, :23, :21]
HU = (900 * np.sin(Z / 5 + Y / 7) * np.cos(X / 6) + 40 * ((X + Y) % 3)).astype(np.int16)
BLOCK = content(HU)


def _named(block: bytes) -> bytes:
    """A stream whose header contains a name and a time."""
    out = io.BytesIO()
    with gzip.GzipFile("patient.nii", "wb", 6, out, mtime=1e9) as file:
        file.write(block)
    return out.getvalue()


STREAMS = (
    gzip.compress(BLOCK, 1),
    gzip.compress(BLOCK, 9),
    gzip.compress(BLOCK, 0),  # stored, not compressed: a flip changes one byte and no other
    _named(BLOCK),
    b"".join(gzip.compress(BLOCK[at : at + 3000]) for at in range(0, len(BLOCK), 3000)),
)


def _mutated(stream: bytes, draw: random.Random) -> bytes:
    """A stream with flipped bits, cut, or with a part lost, doubled, moved or overwritten."""
    block = bytearray(stream)
    start = draw.randrange(len(block))
    length = min(draw.choice((1, 2, 16, 64, 512)), len(block) - start)
    part = bytes(block[start : start + length])
    kind = draw.randrange(9)
    if kind < 4:
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            place = draw.randrange(8 * len(block))
            block[place // 8] ^= 1 << place % 8
    elif kind == 4:
        del block[start:]
    elif kind == 5:
        del block[start : start + length]
    elif kind == 6:
        place = draw.randrange(len(block))
        block[place:place] = part
    elif kind == 7:  # a block that was never written
        block[start : start + length] = bytes(length)
    else:
        block[start : start + length] = draw.randbytes(length)
    return bytes(block)


@pytest.mark.gate("G9")
def test_a_mutated_gzip_stream_gives_the_same_voxels_or_none(faults, tmp_path: Path) -> None:
    refused = trusted = 0
    times = faults.times(push=5_000, soak=50_000)
    path = tmp_path / "scan.nii.gz"
    for turn in range(times):
        path.write_bytes(_mutated(STREAMS[turn % len(STREAMS)], faults.random(turn)))
        try:
            scan = open_scan(path).verified()
            voxels = scan.read()
        except BadInput:
            refused += 1
            trusted += _is_read_on_trust(path)
        else:
            np.testing.assert_array_equal(voxels, HU, f"turn {turn}")
            assert scan.head == BLOCK[:352], turn
        faults.handled()
    assert refused > 0.9 * times  # few bits of a stream mean nothing
    assert trusted > 0.001 * times


def _is_read_on_trust(path: Path) -> bool:
    """Whether a damaged stream is read with the option; then there must be a warning."""
    try:
        scan = open_scan(path, ReadOptions(hu=True, checksum=True)).verified()
        scan.read()
    except BadInput:
        return False
    assert any("wrong checksum" in odd for odd in scan.warnings)
    return True
