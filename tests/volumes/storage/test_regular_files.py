import os

import pytest

from volumes.storage.regular_files import open_regular, read_within


def test_a_regular_file_is_read(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"content")
    assert read_within(tmp_path, "deep/file", 7) == b"content"


def test_a_file_that_is_too_large_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(ValueError, match="more than 6 bytes"):
        read_within(tmp_path, "file", 6)


def test_a_symlink_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="symbolic links"):
        open_regular(tmp_path / "link")


def test_a_file_in_a_folder_that_is_a_symlink_is_refused(tmp_path):
    for folder in ("outside", "inside"):
        (tmp_path / folder).mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"content")
    (tmp_path / "inside" / "deep").symlink_to("../outside")
    with pytest.raises(ValueError, match="deep is a symlink"):
        read_within(tmp_path / "inside", "deep/file", 100)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_regular_file_is_refused(tmp_path, make):
    make(tmp_path / "other")
    with pytest.raises(ValueError, match="not a regular file"):
        open_regular(tmp_path / "other")
