import errno
import os
import platform
import subprocess
import sys

import pytest

from engine.errors import CannotWrite, Locked
from engine.runs import holder_file

HOLD = """
import sys
from pathlib import Path
from engine.runs import holder_file
with holder_file.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


def refusal(folder):
    with pytest.raises(Locked) as caught, holder_file.held(folder):
        pass
    with pytest.raises(Locked) as again:
        holder_file.refuse_held(folder)
    assert str(again.value) == str(caught.value)
    return str(caught.value)


def test_a_folder_is_held_by_one_and_free_afterwards(tmp_path):
    with holder_file.held(tmp_path):
        assert refusal(tmp_path) == (
            f"{tmp_path}: is being trained by process {os.getpid()} on {platform.node()}. Wait for "
            f"it, or remove {tmp_path}/.lock.held if that process has ended."
        )
    holder_file.refuse_held(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_file_of_a_process_that_was_killed_is_taken_over(tmp_path):
    with holding(tmp_path) as process:
        assert f"process {process.pid} on" in refusal(tmp_path)
        process.kill()
    holder_file.refuse_held(tmp_path)
    with holder_file.held(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / ".lock.held").read_text()
    assert not list(tmp_path.iterdir())


def changed(folder, change):
    """The holder file of a process that was killed, changed."""
    with holding(folder) as process:
        process.kill()
    path = folder / ".lock.held"
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(platform.node(), "elsewhere"),
        lambda text: text.replace("pid:[", "pid:[9"),  # another container of the same name
        lambda text: "",  # of a process that is just writing it
        lambda text: "process 1\0 of whom",
        lambda text: text[:-1],
    ],
    ids=["machine", "container", "empty", "foreign", "cut"],
)
def test_a_holder_that_may_still_run_is_refused_with_the_file_to_remove(tmp_path, change):
    changed(tmp_path, change)
    assert f"remove {tmp_path}/.lock.held if that process has ended" in refusal(tmp_path)


def test_another_process_of_the_same_number_is_not_the_holder(tmp_path):
    mine = f"process {os.getpid()} on"

    def later(text):
        return text.replace(text[: text.index(" on") + 3], mine)

    changed(tmp_path, later)
    with holder_file.held(tmp_path):
        pass


def test_while_one_takes_a_stale_file_over_the_others_are_refused(tmp_path):
    changed(tmp_path, str)
    (tmp_path / ".lock.taken").write_text("")
    with pytest.raises(Locked, match=r"remove .*\.lock\.taken"), holder_file.held(tmp_path):
        pass


def test_a_file_that_was_taken_over_in_the_meantime_is_left_alone(tmp_path, monkeypatch):
    """The slower of two finds another content once it may remove the file."""
    changed(tmp_path, str)
    open_, faster = os.open, []

    def late(name, *more, **named):
        if name == ".lock.taken" and not faster:
            faster.append(holder_file.held(tmp_path))
            faster[0].__enter__()
        return open_(name, *more, **named)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(Locked, match=f"process {os.getpid()} on"), holder_file.held(tmp_path):
        pass
    faster[0].__exit__(None, None, None)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_renamed_while_it_is_held_is_released(tmp_path):
    (tmp_path / "run").mkdir()
    with holder_file.held(tmp_path / "run"):
        (tmp_path / "run").rename(tmp_path / "aside")
    assert not list((tmp_path / "aside").iterdir())


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda p: os.symlink("/dev/zero", p)])
def test_what_is_no_holder_file_is_refused_and_not_waited_for(tmp_path, make):
    make(tmp_path / ".lock.held")
    assert "is being trained by another process" in refusal(tmp_path)


def test_without_space_for_its_name_the_file_is_not_left_behind(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("engine.runs.holder_file.open", full, raising=False)
    with pytest.raises(CannotWrite, match="No space left"), holder_file.held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
