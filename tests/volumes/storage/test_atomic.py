from __future__ import annotations

import errno
import os
import threading

import pytest

from volumes.errors import CannotWrite
from volumes.storage.atomic import make_folder, remove_orphans, replace_text, whole_file


def put(path, content=b"new", **options):
    with whole_file(path, **options) as file:
        file.write(content)


def break_off(path, error, **options):
    with whole_file(path, **options) as file:
        file.write(b"half")
        raise error


def fail(code):
    def call(*_):
        raise OSError(code, os.strerror(code))

    return call


def test_a_text_is_utf_8_and_keeps_names_that_are_not(tmp_path):
    path = tmp_path / "report.md"
    path.write_text("old")
    assert replace_text(path, "5 \N{MICRO SIGN}m, M\udcfcller\n") == path
    assert path.read_bytes() == b"5 \xc2\xb5m, M\\udcfcller\n"


def test_the_file_is_complete_and_alone_afterwards(tmp_path):
    content = bytes(range(256)) * 10_000
    put(tmp_path / "scan.nii", content)
    assert (tmp_path / "scan.nii").read_bytes() == content
    assert os.listdir(tmp_path) == ["scan.nii"]


def test_nothing_bears_the_name_before_the_end(tmp_path):
    path = tmp_path / "scan.nii"
    with whole_file(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.exists()


def test_an_existing_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "scan.nii"
    path.write_bytes(b"old")
    with pytest.raises(CannotWrite, match="exists already") as caught:
        put(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert path.read_bytes() == b"old"


def test_a_link_that_leads_nowhere_counts_as_existing(tmp_path):
    path = tmp_path / "scan.nii"
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(CannotWrite, match="exists already"):
        put(path)
    assert not (tmp_path / "gone").exists()


def test_overwriting_replaces_the_whole_file(tmp_path):
    path = tmp_path / "scan.nii"
    path.write_bytes(b"a longer content than the new one")
    put(path, overwrite=True)
    assert path.read_bytes() == b"new"


def test_overwriting_leaves_other_names_of_the_old_file_alone(tmp_path):
    path, other = tmp_path / "scan.nii", tmp_path / "link.nii"
    path.write_bytes(b"old")
    os.link(path, other)
    put(path, overwrite=True)
    assert other.read_bytes() == b"old"


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_inside_leaves_neither_the_file_nor_a_temporary_one(tmp_path, kind):
    with pytest.raises(kind):
        break_off(tmp_path / "scan.nii", kind)
    assert os.listdir(tmp_path) == []


def test_an_exception_while_overwriting_keeps_the_old_content(tmp_path):
    path = tmp_path / "scan.nii"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="half-way"):
        break_off(path, ValueError("half-way"), overwrite=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["scan.nii"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_a_refusal_with_exit_code_4_that_leaves_nothing(tmp_path, monkeypatch, call):
    monkeypatch.setattr(os, call, fail(errno.ENOSPC))
    with pytest.raises(CannotWrite, match="Free some space") as caught:
        put(tmp_path / "scan.nii")
    assert caught.value.exit_code == 4
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_within_the_writing_is_a_refusal_that_leaves_nothing(tmp_path):
    with pytest.raises(CannotWrite, match="Free some space"):
        break_off(tmp_path / "scan.nii", OSError(errno.ENOSPC, "No space left on device"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO])
def test_an_error_of_the_system_is_one_line_that_begins_with_the_path(tmp_path, monkeypatch, code):
    path = tmp_path / "scan.nii"
    monkeypatch.setattr(os, "fsync", fail(code))
    with pytest.raises(CannotWrite) as caught:
        put(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be written: {os.strerror(code)}. ")
    assert "\n" not in message


def test_a_temporary_file_that_cannot_be_removed_does_not_hide_why(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", fail(errno.ENOSPC))
    monkeypatch.setattr(os, "unlink", fail(errno.EROFS))
    with pytest.raises(CannotWrite, match=os.strerror(errno.ENOSPC)):
        put(tmp_path / "scan.nii")


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CannotWrite, match="No such file"):
        put(tmp_path / "none" / "scan.nii")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotWrite, match="Not a directory"):
        put(tmp_path / "file" / "scan.nii")


def test_a_folder_in_place_of_the_file_is_refused_and_kept(tmp_path):
    (tmp_path / "scan.nii").mkdir()
    with pytest.raises(CannotWrite):
        put(tmp_path / "scan.nii", overwrite=True)
    assert os.listdir(tmp_path) == ["scan.nii"]


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(CannotWrite, match="shorter name"):
        put(tmp_path / ("a" * 300))


@pytest.mark.parametrize("name", ["a" * 251 + ".nii", "患" * 83 + ".nii", "naïve 患者 (1)\n.nii"])
def test_every_name_that_the_system_takes_is_written(tmp_path, name):
    put(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"new"


def test_the_content_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    path, sizes = tmp_path / "scan.nii", []

    def synced(_):
        sizes.append([p.stat().st_size for p in tmp_path.iterdir() if p != path])
        assert not path.exists() or sizes[0] == [3]

    monkeypatch.setattr(os, "fsync", synced)
    put(path)
    assert sizes == [[3], []]  # the content under another name, then the folder with the rename


def test_threads_that_write_one_file_leave_one_whole_content(tmp_path):
    path, contents, refused = tmp_path / "scan.nii", [bytes([n]) * 50_000 for n in range(6)], []

    def write(content):
        try:
            put(path, content, overwrite=True)
        except CannotWrite as refusal:
            refused.append(refusal)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == []
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["scan.nii"]


def test_a_folder_is_made_with_its_parents_and_may_exist(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_where_a_file_lies_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(CannotWrite) as caught:
        make_folder(tmp_path / "a")
    assert caught.value.exit_code == 4


def temporary(path, monkeypatch, process):
    """A temporary file that a process left."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: process)
        before = set(path.parent.iterdir())
        with whole_file(path):
            (left,) = set(path.parent.iterdir()) - before
    left.write_bytes(b"half")
    path.unlink()
    return left


GONE = 999_999_999


def test_temporary_files_of_processes_that_are_gone_are_removed(tmp_path, monkeypatch):
    path = tmp_path / "scan.nii.gz"
    gone = temporary(path, monkeypatch, GONE)
    running = temporary(path, monkeypatch, os.getppid())
    other = temporary(tmp_path / "other.nii.gz", monkeypatch, GONE)
    remove_orphans([path, tmp_path / "missing" / "scan.nii.gz"])
    assert [each.exists() for each in (gone, running, other)] == [False, True, True]


def test_a_long_name_is_not_taken_for_another_that_begins_alike(tmp_path, monkeypatch):
    one, other = (tmp_path / f"{'n' * 200}{i}.nii.gz" for i in (1, 2))
    left, others = (temporary(path, monkeypatch, GONE) for path in (one, other))
    remove_orphans([one])
    assert (left.exists(), others.exists()) == (False, True)
