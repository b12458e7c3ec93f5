import errno
import os

import pytest

from volumes.storage.read_errors import unreadable

MISSING = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def test_a_missing_file_is_told_with_the_system_s_words(tmp_path):
    assert str(unreadable(tmp_path / "a.nii", MISSING)) == (
        f"{tmp_path}/a.nii: cannot be read: No such file or directory. "
        "Check its name and your permissions."
    )


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("../.git/annex/objects/Xq/MD5E-s9.nii.gz", "Fetch it with `git annex get` or"),
        ("gone.nii", "Restore that file, or remove the link"),
    ],
)
def test_a_link_to_nowhere_is_told_as_one(tmp_path, target, remedy):
    (tmp_path / "a.nii").symlink_to(target)
    told = unreadable(tmp_path / "a.nii", MISSING)
    assert told.cause == f"cannot be read: it is a link to a file that is not there, {target}"
    assert told.remedy.startswith(remedy)


def test_a_file_below_a_link_to_nowhere_is_told_by_the_link(tmp_path):
    (tmp_path / "case").symlink_to("moved")
    told = unreadable(tmp_path / "case" / "imaging.nii", MISSING)
    assert told.cause == (
        f"cannot be read: it is below the link {tmp_path}/case to a file that is not there, moved"
    )


def test_too_many_open_files_are_told_with_the_limit_to_raise(tmp_path):
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    assert "ulimit -n" in unreadable(tmp_path / "a.nii", error).remedy
