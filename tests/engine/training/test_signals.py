import os
import signal
import subprocess
import sys
import threading

import pytest

from engine.training.signals import Stop, Stopped, ends_soon, interruptible


@pytest.fixture(autouse=True)
def _not_under_nohup():
    """Who ignores HUP when the tests begin, ignores it for good."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"]


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_is_noted_and_does_not_end_the_process(name):
    with interruptible() as stop:
        assert stop.asked is None
        signal.raise_signal(getattr(signal, name))
        assert stop.asked == name


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(getattr(signal, name)) for name in SIGNALS]
    with interruptible():
        pass
    assert [signal.getsignal(getattr(signal, name)) for name in SIGNALS] == before


def test_the_handlers_of_before_come_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), interruptible():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_signals_are_left_alone():
    before = [signal.getsignal(getattr(signal, name)) for name in SIGNALS]
    seen = []

    def work():
        with interruptible() as stop:
            seen.append([signal.getsignal(getattr(signal, name)) for name in SIGNALS])
            seen.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, None]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now_s = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    return now_s


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_request_may_raise_instead_of_ending_the_process(monkeypatch, clock, second):
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail(f"exits with {code}"))
    with interruptible(exits=False):
        signal.raise_signal(signal.SIGINT)
        clock[0] += 1.5
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(getattr(signal, second))


@pytest.mark.parametrize("first", SIGNALS)
def test_a_second_ctrl_c_ends_the_process_with_130(monkeypatch, clock, first):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with interruptible():
        signal.raise_signal(getattr(signal, first))
        assert codes == []
        clock[0] += 0.15
        signal.raise_signal(signal.SIGINT)
    assert codes == [130]


def test_a_ctrl_c_that_reaches_process_and_group_is_one(monkeypatch, clock):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with interruptible() as stop:
        signal.raise_signal(signal.SIGINT)
        clock[0] += 0.01
        signal.raise_signal(signal.SIGINT)
    assert (codes, stop.asked) == ([], "SIGINT")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_second_signal_ends_the_process_with_75(monkeypatch, clock, name):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with interruptible():
        signal.raise_signal(signal.SIGTERM)
        clock[0] += 1.5
        signal.raise_signal(getattr(signal, name))
    assert codes == [75]


def test_one_request_that_is_sent_twice_is_one_request(monkeypatch, clock):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with interruptible() as stop:
        for name in ("SIGTERM", "SIGTERM", "SIGHUP"):
            signal.raise_signal(getattr(signal, name))
            clock[0] += 0.1
    assert codes == []
    assert stop.asked == "SIGTERM"


def test_a_hangup_that_was_ignored_before_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.asked is None
            signal.raise_signal(signal.SIGUSR1)
            assert stop.asked == "SIGUSR1"
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# -- Where nothing has to be saved -----------------------------------------------------------------


@pytest.mark.parametrize("name", SIGNALS)
def test_where_nothing_has_to_be_saved_a_request_is_raised(name):
    with interruptible() as stop:
        with pytest.raises(Stopped, match=name), stop.at_once():
            signal.raise_signal(getattr(signal, name))
        assert stop.asked == name


def test_from_where_there_is_work_to_save_a_request_is_only_recorded():
    with interruptible() as stop, stop.at_once():
        stop.hold()
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked == "SIGTERM"


def test_a_request_that_was_swallowed_is_raised_at_the_next_look():
    stop = Stop()
    stop.asked = "SIGTERM"
    for look in (stop.check, stop.hold):
        with pytest.raises(Stopped, match="SIGTERM"):
            look()
    with pytest.raises(Stopped, match="SIGTERM"), stop.at_once():
        pass


# A call of compiled code that returns to Python after a long time: exceptions wait for its end.
BLOCKED = """
import ctypes, sys
from pathlib import Path
from engine.training.signals import ends_soon
from volumes.storage.atomic import whole_file
with ends_soon("told"), whole_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    libc = ctypes.CDLL(None)
    said = []
    while True:
        try:
            said = said or [print("begun", flush=True)]
            libc.sleep(300)
        except KeyboardInterrupt:
            pass
"""


def test_ctrl_c_ends_a_command_that_is_in_compiled_code(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", BLOCKED, tmp_path / "out"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "told\n")
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_ends_is_left_alone():
    before = signal.set_wakeup_fd(-1)
    with ends_soon("told"):
        pass
    assert signal.set_wakeup_fd(before) == -1
