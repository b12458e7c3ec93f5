import pytest

from volumes import notes
from volumes.refusals import CannotWrite

CONTENT = {"shape": [3, 4], "sha256": "ab", "counts": {"saturated_voxels": 0}}


def test_a_note_says_what_was_written(tmp_path):
    notes.write(tmp_path / "note", CONTENT)
    assert notes.read(tmp_path / "note") == CONTENT


def test_where_there_is_no_note_nothing_is_said(tmp_path):
    assert notes.read(tmp_path / "note") is None


def test_no_flipped_bit_makes_a_note_say_something_else(tmp_path):
    path = tmp_path / "note"
    notes.write(path, CONTENT)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert notes.read(path) in (None, CONTENT), bit


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"crc32": 0}', "[" * 100_000])
def test_what_is_no_note_says_nothing(tmp_path, text):
    (tmp_path / "note").write_text(text)
    assert notes.read(tmp_path / "note") is None


def test_a_note_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(CannotWrite):
        notes.write(tmp_path / "none" / "note", CONTENT)
