import os

import pytest

from volumes.errors import CannotWrite
from volumes.storage import json_files


def test_json_is_read(tmp_path):
    path = tmp_path / "one.json"
    path.write_text('{"a": [1, 2.5, "x", null]}')
    assert json_files.read_json(path) == {"a": [1, 2.5, "x", None]}


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000],
    ids=["nothing", "half", "no text", "deep lists", "deep objects", "a number of 10,000 digits"],
)
def test_a_text_that_is_not_json_is_refused(tmp_path, text):
    path = tmp_path / "one.json"
    path.write_bytes(text)
    with pytest.raises(ValueError):  # noqa: PT011 (json's own words differ)
        json_files.read_json(path)


def test_a_file_must_not_be_larger_than_a_mebibyte(tmp_path):
    path = tmp_path / "one.json"
    path.write_text('"' + "x" * (2**20 - 2) + '"')
    assert len(json_files.read_json(path)) == 2**20 - 2
    path.write_text('"' + "x" * (2**20 - 1) + '"')
    with pytest.raises(ValueError, match=r"one\.json is larger than 1,048,576 bytes"):
        json_files.read_json(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "one.json")
    with pytest.raises(OSError, match="Not a regular file"):
        json_files.read_json(tmp_path / "one.json")


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "1e300"])
def test_numbers_are_numbers(text):
    assert json_files.is_number(json_files.parse_json(text))


@pytest.mark.parametrize("text", ["true", "null", '"1"', "[1]", "NaN", "-Infinity", "1" * 400])
def test_values_outside_float64_are_not_numbers(text):
    assert not json_files.is_number(json_files.parse_json(text))


# -- Sealed files --

CONTENT = {"shape": [3, 4], "sha256": "ab", "counts": {"saturated_voxels": 0}}


def test_a_sealed_file_has_the_content_that_was_written(tmp_path):
    json_files.write_sealed(tmp_path / "note", CONTENT)
    assert json_files.read_sealed(tmp_path / "note") == CONTENT


def test_a_missing_sealed_file_is_none(tmp_path):
    assert json_files.read_sealed(tmp_path / "note") is None


def test_no_flipped_bit_changes_the_content_of_a_sealed_file(tmp_path):
    path = tmp_path / "note"
    json_files.write_sealed(path, CONTENT)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert json_files.read_sealed(path) in (None, CONTENT), bit


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"crc32": 0}', "[" * 100_000])
def test_a_file_without_a_seal_is_none(tmp_path, text):
    (tmp_path / "note").write_text(text)
    assert json_files.read_sealed(tmp_path / "note") is None


def test_a_sealed_file_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(CannotWrite):
        json_files.write_sealed(tmp_path / "none" / "note", CONTENT)
