import pytest

from engine.diagnostics.benchmark.rounds import Ratio, Taken, median, ratio, take_turns, timed


def test_ways_take_turns_and_every_second_round_is_reversed():
    order = []
    ways = {name: (lambda name=name: order.append(name)) for name in "abc"}
    times = take_turns(ways, 3)
    assert "".join(order) == "abccbaabc"
    assert {name: len(taken) for name, taken in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_ratios_are_taken_within_a_round_and_of_processor_seconds():
    slowing = [Taken(1, 1.0), Taken(1, 2.0), Taken(1, 4.0)]
    twice = [Taken(9, 2.0), Taken(9, 4.0), Taken(9, 10.0)]
    assert ratio(twice, slowing) == Ratio(2.0, 2.0, 2.5)
    assert median(twice) == Taken(9, 4.0)


def test_work_takes_processor_seconds_and_waiting_takes_none():
    waited = timed(lambda: __import__("time").sleep(0.2))
    assert waited.seconds >= 0.2
    assert waited.processor_s == pytest.approx(0, abs=0.1)
    assert timed(lambda: sum(range(3_000_000))).processor_s > 0.005
