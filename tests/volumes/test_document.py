import os

import pytest

from volumes import document


def test_what_json_says_is_read(tmp_path):
    path = tmp_path / "one.json"
    path.write_text('{"a": [1, 2.5, "x", null]}')
    assert document.read(path) == {"a": [1, 2.5, "x", None]}


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000],
    ids=["nothing", "half", "no text", "deep lists", "deep objects", "a number of 10,000 digits"],
)
def test_what_is_no_json_is_refused(tmp_path, text):
    path = tmp_path / "one.json"
    path.write_bytes(text)
    with pytest.raises(ValueError):  # noqa: PT011 (json's own words differ)
        document.read(path)


def test_a_document_may_not_be_larger_than_a_mebibyte(tmp_path):
    path = tmp_path / "one.json"
    path.write_text('"' + "x" * (2**20 - 2) + '"')
    assert len(document.read(path)) == 2**20 - 2
    path.write_text('"' + "x" * (2**20 - 1) + '"')
    with pytest.raises(ValueError, match=r"one\.json is larger than 1,048,576 bytes"):
        document.read(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "one.json")
    with pytest.raises(OSError, match="Not a regular file"):
        document.read(tmp_path / "one.json")


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "1e300"])
def test_numbers_are_numbers(text):
    assert document.is_number(document.parsed(text))


@pytest.mark.parametrize("text", ["true", "null", '"1"', "[1]", "NaN", "-Infinity", "1" * 400])
def test_what_float64_does_not_hold_is_none(text):
    assert not document.is_number(document.parsed(text))
