import sys
import threading
import time

import pytest

from engine.diagnostics.benchmark.stage_times import StageTimes

OUTER, INNER = f"{__name__}:outer", f"{__name__}:inner"


class Clock:
    """Processor seconds that pass only where a test says so."""

    now = 0.0


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", lambda: Clock.now)


def burn(seconds: float) -> None:
    Clock.now += seconds


def outer() -> None:
    burn(0.05)
    inner()
    burn(0.05)


def inner() -> None:
    burn(0.2)


def failing() -> None:
    burn(0.05)
    raise ValueError


def measured(work) -> dict[str, float]:
    times = StageTimes({OUTER: "outer", INNER: "inner", f"{__name__}:failing": "failing"})
    with times.measuring():
        work()
    return dict(times.seconds)


def test_a_stage_inside_another_is_counted_once():
    assert measured(outer) == pytest.approx({"outer": 0.1, "inner": 0.2})


def test_what_is_no_stage_is_not_counted():
    assert measured(lambda: (burn(0.2), inner())) == pytest.approx({"inner": 0.2})


def waiting() -> None:
    thread = threading.Thread(target=burn, args=(0.2,))
    thread.start()
    thread.join()


def test_a_thread_that_a_stage_waits_for_counts_for_it():
    times = StageTimes({f"{__name__}:waiting": "waiting"})
    with times.measuring():
        waiting()
    assert times.seconds == pytest.approx({"waiting": 0.2})


def test_a_stage_that_fails_ends():
    def work() -> None:
        with pytest.raises(ValueError, match=r"^$"):
            failing()
        inner()

    assert measured(work) == pytest.approx({"failing": 0.05, "inner": 0.2})


def test_a_generator_is_a_stage_only_while_it_computes():
    def parts():
        for _ in range(2):
            burn(0.05)
            yield

    times = StageTimes({f"{__name__}:{parts.__qualname__}": "parts", INNER: "inner"})
    with times.measuring():
        for _ in parts():
            inner()
    assert times.seconds == pytest.approx({"parts": 0.1, "inner": 0.4})


def test_the_hook_is_removed_at_the_end():
    before = sys.getprofile()
    measured(inner)
    assert sys.getprofile() is before
