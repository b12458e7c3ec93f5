import errno
import io
import json
import os
import sys

import pytest

from engine.errors import CannotWrite, DiskFull
from engine.runs.metrics_file import Metrics
from engine.terminal import Terminal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def written(path, *rows):
    metrics = Metrics(path, 0)
    for step in rows:
        metrics.row(step=step, loss=0.1 * step)
    metrics.close()
    return path.read_bytes()


# -- metrics.jsonl ---------------------------------------------------------------------------------


def test_a_row_is_one_object_on_one_line(path):
    metrics = Metrics(path, 0)
    metrics.row(step=1, loss=0.1 + 0.2, method="noisy", mean={"psnr_db": 20.0})
    metrics.close()
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 0.1 + 0.2, "method": "noisy", "mean": {"psnr_db": 20.0}}
    ]


def test_rows_up_to_the_step_stay_to_the_byte(path):
    before = written(path, 1, 2, 2, 3, 4)
    Metrics(path, 4).close()
    assert path.read_bytes() == before


def test_rows_of_later_steps_go(path):
    before = written(path, 1, 2, 2, 3, 4)
    Metrics(path, 2).close()
    assert steps(path) == [1, 2, 2]
    assert before.startswith(path.read_bytes())


def test_rows_are_added_behind_those_that_stay(path):
    written(path, 1, 2, 3)
    metrics = Metrics(path, 2)
    metrics.row(step=3, again=True)
    metrics.close()
    assert steps(path) == [1, 2, 3]
    assert "again" in path.read_text().splitlines()[-1]


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b'{"step": 3}', b"{", b"\0\0\0", b"[]", b"3"])
def test_a_last_line_that_was_being_written_goes(path, torn):
    before = written(path, 1, 2)
    path.write_bytes(before + torn)
    Metrics(path, 9).close()
    assert path.read_bytes() == before


def test_an_empty_file_stays_empty(path):
    path.write_bytes(b"")
    Metrics(path, 5).close()
    assert path.read_bytes() == b""


def test_rows_are_on_disk_after_a_sync(path):
    metrics = Metrics(path, 0)
    metrics.row(step=1)
    metrics.sync()
    assert steps(path) == [1]
    metrics.close()


class Full(io.FileIO):
    """A file on a disk that has room for so many bytes."""

    room = 0

    def write(self, block):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(bytes(block)[: self.room])
        self.room -= written
        return written


@pytest.fixture
def full(monkeypatch):
    """Opens metrics on a disk of its own."""

    def opened(path, mode, buffering=-1):
        return Full(path, mode) if mode == "ab" else open(path, mode, buffering)

    monkeypatch.setattr("engine.terminal.open", opened, raising=False)


@pytest.mark.parametrize("room", [0, 1, 30, 50])
def test_a_full_disk_tears_no_row_and_loses_none(path, full, room):
    metrics = Metrics(path, 0)
    metrics._file.room = room
    for step in (1, 2, 3):
        metrics.row(step=step, loss=0.5)
    with pytest.raises(DiskFull):
        metrics.sync()
    assert path.read_bytes() == b"" or path.read_bytes().endswith(b"}\n")
    metrics._file.room = 1000
    metrics.sync()
    metrics.close()
    assert steps(path) == [1, 2, 3]


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(CannotWrite):
        Metrics(tmp_path, 0)


# -- The terminal ----------------------------------------------------------------------------------


def said(capfd, terminal):
    terminal.say("said")
    terminal.warn("warned")
    terminal.result("result")
    return capfd.readouterr()


def test_results_go_to_stdout_and_the_rest_to_stderr(capfd):
    out, err = said(capfd, Terminal())
    assert out == "result\n"
    assert err == "said\nengine: warning: warned\n"


def test_quiet_silences_all_but_results_and_warnings(capfd):
    out, err = said(capfd, Terminal(quiet=True))
    assert out == "result\n"
    assert err == "engine: warning: warned\n"


def test_a_long_line_stays_one_line(capfd):
    Terminal().say("a/long/path/" * 40)
    assert capfd.readouterr().err == "a/long/path/" * 40 + "\n"


def test_brackets_in_a_name_are_shown_as_they_are(capfd):
    Terminal().say("scan[bold] of case [1]")
    assert capfd.readouterr().err == "scan[bold] of case [1]\n"


def test_a_table_in_a_pipe_is_whole(capfd):
    columns = ["", "PSNR (dB)", "SSIM"]
    Terminal().table("test case", columns, [["noisy", "20.00", "0.2"], ["a" * 60, "40.00", "0.9"]])
    out, err = capfd.readouterr()
    assert err == ""
    for cell in ("test case", *columns, "noisy", "20.00", "a" * 60, "0.9"):
        assert cell in out


def test_progress_vanishes_where_stderr_is_no_terminal(capfd):
    with Terminal().progress("training", 10) as bar:
        for done in range(11):
            bar.at(done, "loss 0.1")
    assert capfd.readouterr() == ("", "")


def pretend_terminal(monkeypatch):
    """Makes stderr a terminal in name."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")


def test_a_terminal_is_shown_how_far_it_is(capfd, monkeypatch):
    pretend_terminal(monkeypatch)
    with Terminal().progress("training", 10, 3) as bar:
        bar.at(10, "loss 0.1")
    err = capfd.readouterr().err
    assert "training" in err
    assert "10/10" in err


def test_a_quiet_terminal_is_shown_nothing(capfd, monkeypatch):
    pretend_terminal(monkeypatch)
    with Terminal(quiet=True).progress("training", 10) as bar:
        bar.at(10)
    assert capfd.readouterr().err == ""


def test_details_are_for_the_verbose(capfd):
    Terminal().detail("a detail")
    assert capfd.readouterr().err == ""
    Terminal(verbose=True).detail("a detail")
    assert capfd.readouterr().err == "a detail\n"


@pytest.mark.parametrize("odd", [b"\n", b"\0\0\n", b"{\n", b"[]\n", b'{"loss": 1}\n'])
def test_a_damaged_line_between_rows_costs_no_row_and_is_told(path, odd):
    lines = written(path, 1, 2, 3, 4).splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], odd, *lines[1:]]))
    told = []
    Metrics(path, 3, told.append).close()
    assert path.read_bytes() == b"".join([lines[0], odd, *lines[1:3]])
    assert told == [f"{path}: line 2 is no row of metrics; it is kept as it is"]


def test_rows_that_are_gone_are_told(path):
    told = []
    Metrics(path, 20, told.append).close()
    assert told == [f"{path}: is gone, and with it the rows up to step 20"]
    Metrics(path.with_name("new.jsonl"), -1, told.append).close()
    assert len(told) == 1
