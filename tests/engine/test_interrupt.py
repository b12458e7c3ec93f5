import os
import signal

import pytest

from engine.interrupt import interruptible

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


def test_a_second_ctrl_c_ends_the_process_with_130(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with interruptible():
        signal.raise_signal(signal.SIGINT)
        assert codes == []
        signal.raise_signal(signal.SIGINT)
    assert codes == [130]


def test_a_second_sigterm_is_patient(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with interruptible() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert codes == []
    assert stop.asked == "SIGTERM"
