import math

import pytest

from engine import schedules


def test_a_constant_rate_is_the_same_at_every_step():
    schedule = schedules.constant(1e-4)
    assert [schedule(step, 100) for step in (0, 50, 99, 1000)] == [1e-4] * 4


def test_a_cosine_goes_from_the_first_rate_to_the_last():
    schedule = schedules.cosine(3e-3, 1e-5)
    assert schedule(0, 101) == pytest.approx(3e-3)
    assert schedule(50, 101) == pytest.approx((3e-3 + 1e-5) / 2)
    assert schedule(100, 101) == pytest.approx(1e-5)


def test_a_quarter_of_the_way_a_cosine_has_fallen_by_its_seventh_part():
    # (1 + cos 45 degrees) / 2
    assert schedules.cosine(1.0)(25, 101) == pytest.approx((1 + math.sqrt(0.5)) / 2)


def test_a_cosine_stays_at_its_end():
    assert schedules.cosine(1e-3, 1e-5)(500, 101) == pytest.approx(1e-5)


def test_a_cosine_of_one_step_has_the_first_rate():
    assert schedules.cosine(1e-3, 1e-5)(0, 1) == pytest.approx(1e-3)


def test_a_longer_training_has_a_longer_cosine():
    schedule = schedules.cosine(1e-3)
    assert schedule(50, 201) == pytest.approx(schedule(25, 101))


def test_a_piece_holds_from_its_step_until_the_next():
    schedule = schedules.piecewise((0, 1e-3), (30, 1e-4), (50, 1e-5))
    rates = [schedule(step, 100) for step in (0, 29, 30, 49, 50, 1000)]
    assert rates == [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5]


def test_pieces_do_not_move_when_a_training_is_made_longer():
    schedule = schedules.piecewise((0, 1e-3), (30, 1e-4))
    assert [schedule(29, steps) for steps in (31, 1000)] == [1e-3, 1e-3]
    assert [schedule(30, steps) for steps in (31, 1000)] == [1e-4, 1e-4]


@pytest.mark.parametrize(
    "pieces", [(), ((1, 1e-3),), ((0, 1e-3), (0, 1e-4)), ((0, 1e-3), (9, 1e-4), (5, 1e-5))]
)
def test_pieces_start_at_step_0_and_in_order(pieces):
    with pytest.raises(ValueError, match="pieces must start at step 0"):
        schedules.piecewise(*pieces)


def test_a_warm_up_rises_evenly_to_the_schedule_and_does_not_shift_it():
    then = schedules.cosine(1e-3, 1e-5)
    rate = schedules.warm_up(4, then)
    assert [rate(step, 100) / then(step, 100) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert rate(99, 100) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("1e-4", schedules.Constant(1e-4)),
        ("cosine:1e-3", schedules.Cosine(1e-3, 0.0)),
        ("cosine:1e-3,1e-5", schedules.Cosine(1e-3, 1e-5)),
        ("warm_up:20+1e-4", schedules.WarmUp(20, schedules.Constant(1e-4))),
        ("warm_up:5+cosine:1e-3,1e-5", schedules.WarmUp(5, schedules.Cosine(1e-3, 1e-5))),
        ("piecewise:0=1e-3", schedules.Piecewise(((0, 1e-3),))),
        ("piecewise:0=1e-3,30=1e-4", schedules.Piecewise(((0, 1e-3), (30, 1e-4)))),
    ],
)
def test_a_schedule_is_parsed(text, schedule):
    assert schedules.parse_schedule(text) == schedule


@pytest.mark.parametrize(
    "text",
    [
        "", "fast", "1e-3,1e-5", "cosine", "cosine:", "cosine:1,2,3", "linear:1e-3", "0", "-1",
        "piecewise:", "piecewise:1e-3", "piecewise:5=1e-3", "piecewise:0=1e-3,0.5=1e-4",
        "piecewise:0=", "piecewise:0=0", "warm_up:20", "warm_up:0+1e-3", "warm_up:+1e-3",
        "warm_up:2+warm_up:2+1e-3", "1e-3+warm_up:2",
    ],
)  # fmt: skip
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 (each has a message of its own)
        schedules.parse_schedule(text)


@pytest.mark.parametrize("rate", [0.0, -1e-3, math.nan])
def test_a_rate_must_be_positive(rate):
    with pytest.raises(ValueError, match="must be positive"):
        schedules.constant(rate)
    with pytest.raises(ValueError, match="must be positive"):
        schedules.cosine(rate)
    with pytest.raises(ValueError, match="must be positive"):
        schedules.piecewise((0, 1e-3), (5, rate))
