import gzip
import os
import threading

import pytest

from tests.gates.catalogue import content
from volumes.errors import BadInput
from volumes.nifti.checked_stream import opened
from volumes.nifti.read_options import STRICT, Trust

BLOCK = content()
WRONG = gzip.compress(BLOCK)[:-8] + b"\0\0\0\0" + gzip.compress(BLOCK)[-4:]


def ended(path, trust=STRICT):
    """What is told of a file's end, once all of a scan was read of it."""
    with opened(path) as stream:
        assert stream.read(len(BLOCK)) == BLOCK
        return stream.rest(trust)


@pytest.fixture
def file(tmp_path):
    def write(block):
        (tmp_path / "scan.nii.gz").write_bytes(block)
        return tmp_path / "scan.nii.gz"

    return write


@pytest.mark.parametrize("block", [BLOCK, gzip.compress(BLOCK)], ids=["plain", "compressed"])
def test_a_file_is_read_to_its_end_compressed_or_not(file, block):
    assert ended(file(block)) == []


def test_what_follows_the_gzip_stream_is_told_and_harms_nothing(file):
    (told,) = ended(file(gzip.compress(BLOCK) + b"junk"))
    assert "not part of its gzip stream" in told


def test_zeros_behind_a_gzip_stream_are_a_tape_s_own(file):
    assert ended(file(gzip.compress(BLOCK) + bytes(512))) == []


def test_a_wrong_checksum_is_refused_with_the_option_that_reads_on(file):
    with pytest.raises(BadInput, match=r"damaged.*--allow-bad-crc"):
        ended(file(WRONG))


def test_a_wrong_checksum_is_told_where_it_is_allowed(file):
    (told,) = ended(file(WRONG), Trust(checksum=True))
    assert "wrong checksum" in told


def test_a_wrong_length_is_told_where_a_wrong_checksum_is_allowed(file):
    whole = gzip.compress(BLOCK)
    (told,) = ended(file(whole[:-4] + b"\1\1\1\1"), Trust(checksum=True))
    assert "wrong checksum" in told


@pytest.mark.parametrize("trust", [STRICT, Trust(checksum=True)])
def test_a_stream_without_its_end_is_refused_whatever_is_trusted(file, trust):
    with pytest.raises(BadInput, match="end early"):
        ended(file(gzip.compress(BLOCK)[:-3]), trust)


def test_the_message_on_a_stream_that_ends_early_counts_what_there_was(file):
    path = file(gzip.compress(os.urandom(5000))[:2000])
    with opened(path) as stream, pytest.raises(BadInput, match=r"ends after 1,9\d\d of 5,000 by"):
        stream.need(memoryview(bytearray(5000)), 5000)


def test_a_stream_that_does_not_end_is_left(file):
    path = file(gzip.compress(BLOCK) + gzip.compress(bytes(2**21)))
    with pytest.raises(BadInput, match=r"goes on for more than 0\.001 GiB"):
        ended(path, Trust(gib=0.001))


def test_a_pipe_that_takes_a_file_s_place_is_not_waited_for(tmp_path, monkeypatch):
    pipe, other = tmp_path / "scan.nii", tmp_path / "other.nii"
    other.write_bytes(BLOCK)
    os.mkfifo(pipe)
    looked = os.stat(other)  # what the first look found before the file was replaced
    monkeypatch.setattr("volumes.nifti.checked_stream.os.stat", lambda _: looked)
    told = []

    def ask():
        try:
            with opened(pipe):
                pass
        except BadInput as refusal:
            told.append(str(refusal))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10)
    assert told
    assert "not a regular file" in told[0]
