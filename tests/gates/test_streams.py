"""Mutated gzip streams: the voxels that were written, or a refusal, whichever library decodes."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
from pathlib import Path

import numpy as np
import pytest

from tests.gates.catalogue import content
from volumes.errors import BadInput
from volumes.nifti import Scan, bits, gzip_codec, open_scan
from volumes.nifti.read_options import STRICT, ReadOptions

DECODERS = gzip.GzipFile, gzip_codec.DECODER
TRUSTING = ReadOptions(hu=True, checksum=True)

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
    gzip.compress(BLOCK, 1, mtime=0),
    gzip.compress(BLOCK, 9, mtime=0),
    gzip.compress(
        BLOCK, 0, mtime=0
    ),  # stored, not compressed: a flip changes one byte and no other
    _named(BLOCK),
    b"".join(gzip.compress(BLOCK[at : at + 3000], mtime=0) for at in range(0, len(BLOCK), 3000)),
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
def test_a_mutated_gzip_stream_gives_the_same_voxels_or_none(
    faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = trusted = 0
    times = faults.times(push=5_000, soak=50_000)
    path = tmp_path / "scan.nii.gz"
    for turn in range(times):
        path.write_bytes(_mutated(STREAMS[turn % len(STREAMS)], faults.random(turn)))
        scan = _read_by_each(path, STRICT, monkeypatch)
        if scan is None:
            refused += 1
            on_trust = _read_by_each(path, TRUSTING, monkeypatch)
            if on_trust is not None:  # then there must be a warning
                trusted += 1
                assert any("wrong checksum" in odd for odd in on_trust.warnings), turn
        else:
            np.testing.assert_array_equal(scan.read(), HU, f"turn {turn}")
            assert scan.head == BLOCK[:352], turn
        faults.handled()
    assert refused > 0.9 * times  # few bits of a stream mean nothing
    assert trusted > 0.001 * times


def _read_by_each(path: Path, trust: ReadOptions, monkeypatch: pytest.MonkeyPatch) -> Scan | None:
    """The loaded scan, None if it is refused. Each decoder gives the same, in the same words."""
    one, other = (_read_by(decoder, path, trust, monkeypatch) for decoder in DECODERS)
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
        return None
    assert (one.head, one.warnings) == (other.head, other.warnings)
    np.testing.assert_array_equal(bits(one.read()), bits(other.read()))
    assert one.sha256() == other.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    return one


def _read_by(
    decoder: type[gzip.GzipFile], path: Path, trust: ReadOptions, monkeypatch: pytest.MonkeyPatch
) -> Scan | str:
    with monkeypatch.context() as patch:
        patch.setattr(gzip_codec, "DECODER", decoder)
        try:
            return open_scan(path, trust).loaded()
        except BadInput as refusal:
            return str(refusal)
