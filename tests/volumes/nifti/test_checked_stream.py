import contextlib
import gzip
import hashlib
import os
import threading

import pytest

from tests.gates.catalogue import content
from volumes.errors import BadInput
from volumes.nifti import gzip_codec
from volumes.nifti.checked_stream import open_stream
from volumes.nifti.read_options import STRICT, ReadOptions

BLOCK = content()
WHOLE = gzip.compress(BLOCK, mtime=0)
WRONG = WHOLE[:-8] + b"\0\0\0\0" + WHOLE[-4:]


def ended(path, trust=STRICT):
    """The warnings about the end of a file after all of its scan was read."""
    with open_stream(path) as stream:
        assert stream.read(len(BLOCK)) == BLOCK
        return stream.rest(trust)


@pytest.fixture(autouse=True, params=[gzip.GzipFile, gzip_codec.DECODER], ids=["zlib", "isal"])
def decoder(request, monkeypatch):
    """The library that decodes: what it accepts and refuses, and the words, are the same."""
    monkeypatch.setattr(gzip_codec, "DECODER", request.param)


@pytest.fixture
def file(tmp_path):
    def write(block):
        (tmp_path / "scan.nii.gz").write_bytes(block)
        return tmp_path / "scan.nii.gz"

    return write


@pytest.mark.parametrize(
    "block", [BLOCK, gzip.compress(BLOCK, mtime=0)], ids=["plain", "compressed"]
)
def test_a_file_is_read_to_its_end_compressed_or_not(file, block):
    assert ended(file(block)) == []


def test_bytes_after_the_gzip_stream_give_a_warning_only(file):
    (warnings,) = ended(file(gzip.compress(BLOCK, mtime=0) + b"junk"))
    assert "not part of its gzip stream" in warnings


def test_zeros_after_a_gzip_stream_are_tape_padding(file):
    assert ended(file(gzip.compress(BLOCK, mtime=0) + bytes(512))) == []


def test_a_wrong_checksum_is_refused_and_the_message_names_the_option(file):
    with pytest.raises(BadInput, match=r"damaged.*--allow-bad-crc"):
        ended(file(WRONG))


def test_an_accepted_wrong_checksum_gives_a_warning(file):
    (warnings,) = ended(file(WRONG), ReadOptions(checksum=True))
    assert "wrong checksum" in warnings


def test_a_wrong_length_counts_as_a_wrong_checksum(file):
    whole = gzip.compress(BLOCK, mtime=0)
    (warnings,) = ended(file(whole[:-4] + b"\1\1\1\1"), ReadOptions(checksum=True))
    assert "wrong checksum" in warnings


@pytest.mark.parametrize("trust", [STRICT, ReadOptions(checksum=True)])
def test_a_truncated_stream_is_refused_with_any_option(file, trust):
    with pytest.raises(BadInput, match="end early"):
        ended(file(gzip.compress(BLOCK, mtime=0)[:-3]), trust)


def test_the_message_on_a_stream_that_ends_early_counts_what_there_was(file):
    path = file(gzip.compress(os.urandom(5000), mtime=0)[:2000])
    with (
        open_stream(path) as stream,
        pytest.raises(BadInput, match=r"ends after 1,9\d\d of 5,000 by"),
    ):
        stream.need(memoryview(bytearray(5000)), 5000)


LONG = os.urandom(2**19) * 9  # longer than the pieces that are read, and the buffers of decoders
SECOND = gzip.compress(LONG[-9:], mtime=0)
LONG_WHOLE = gzip.compress(LONG[:-9], 1, mtime=0) + SECOND


def altered(stream, place):
    """A stream with one bit flipped."""
    block = bytearray(stream)
    block[place] ^= 16
    return bytes(block)


FAULTY = {
    "cut": (LONG_WHOLE[:3_000_000], r"ends after 2,9\d\d,\d\d\d of 4,718,592 bytes"),
    "cut in the checksum": (LONG_WHOLE[:-5], "its compressed data end early"),
    "cut in a second header": (
        LONG_WHOLE[: 5 - len(SECOND)],
        "ends after 4,718,583 of 4,718,592 bytes",
    ),
    "no deflate": (LONG_WHOLE[:10] + b"\xff" + LONG_WHOLE[11:], r"damaged \(Error -3 while"),
    "flipped": (altered(LONG_WHOLE, 2_000_000), r"damaged \(CRC check failed 0x.*--allow-bad-crc"),
    "wrong checksum": (altered(LONG_WHOLE, -8), r"damaged \(CRC check failed 0x"),
    "wrong length": (altered(LONG_WHOLE, -4), r"damaged \(Incorrect length of data produced\)"),
    "no second member": (altered(LONG_WHOLE, -len(SECOND)), r"damaged \(Not a gzipped file \(b"),
    "unknown method": (
        altered(LONG_WHOLE, 2 - len(SECOND)),
        r"damaged \(Unknown compression method\)",
    ),
}


@pytest.mark.parametrize(("stream", "told"), FAULTY.values(), ids=FAULTY)
def test_a_fault_after_many_bytes_is_told_in_the_words_of_the_standard_library(file, stream, told):
    def to_the_end(read):
        read.need(memoryview(bytearray(len(LONG))), len(LONG))
        read.rest(STRICT)

    with open_stream(file(stream)) as read, pytest.raises(BadInput, match=told):
        to_the_end(read)


@pytest.mark.parametrize(
    "rest", [b"", b"j", b"\x1f", b"junk", bytes(1), bytes(512), bytes(512) + b"j", WHOLE[:40]]
)
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_the_sha256_is_of_all_bytes_on_disk_whatever_becomes_of_the_stream(
    file, rest, flipped, packed
):
    block = (altered(WHOLE, -7) if flipped else WHOLE) if packed else BLOCK
    path = file(block + rest)
    with open_stream(path, hashlib.sha256(b"head")) as stream:
        stream.read(len(BLOCK))
        with contextlib.suppress(BadInput):
            stream.rest(ReadOptions(checksum=True))
        assert stream.sha256() == hashlib.sha256(b"head" + path.read_bytes()).hexdigest()


def test_a_stream_that_is_too_long_is_refused(file):
    path = file(gzip.compress(BLOCK, mtime=0) + gzip.compress(bytes(2**21), mtime=0))
    with pytest.raises(BadInput, match=r"has more than 0\.001 GiB"):
        ended(path, ReadOptions(gib=0.001))


def test_a_pipe_that_takes_a_file_s_place_is_not_waited_for(tmp_path, monkeypatch):
    pipe, other = tmp_path / "scan.nii", tmp_path / "other.nii"
    other.write_bytes(BLOCK)
    os.mkfifo(pipe)
    looked = os.stat(other)  # what the first look found before the file was replaced
    monkeypatch.setattr("volumes.nifti.checked_stream.os.stat", lambda _: looked)
    warnings = []

    def ask():
        try:
            with open_stream(pipe):
                pass
        except BadInput as refusal:
            warnings.append(str(refusal))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10)
    assert warnings
    assert "not a regular file" in warnings[0]
