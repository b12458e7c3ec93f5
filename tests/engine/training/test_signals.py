import os
import signal

import pytest

from engine.training.signals import interruptible


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


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now_s = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    return now_s


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
