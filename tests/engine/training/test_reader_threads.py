import threading
import time
from concurrent.futures import CancelledError

import pytest

from engine.training import reader_threads
from engine.training.reader_threads import Readers, arrived


@pytest.fixture
def two():
    made = Readers(2)
    yield made
    made.end()


def test_what_was_read_is_there_in_the_order_in_which_it_was_asked_for(two):
    asked = [two.submit(lambda step: step * step, step) for step in range(20)]
    assert [future.result(5) for future in asked] == [step * step for step in range(20)]


def test_an_error_waits_for_whoever_wants_its_result(two):
    def fail(step):
        raise OSError(f"{step} is gone")

    future = two.submit(fail, 3)
    assert arrived(future)
    with pytest.raises(OSError, match="3 is gone"):
        future.result()
    assert two.submit(lambda step: step, 4).result(5) == 4  # its thread goes on


def test_what_has_not_arrived_is_waited_for_no_longer_than_a_look(two, monkeypatch):
    monkeypatch.setattr(reader_threads, "_LOOK_EVERY_S", 0.05)
    answered = threading.Event()
    future = two.submit(lambda _: answered.wait(), 0)
    assert not arrived(future)
    answered.set()
    assert future.result(5)


def test_nothing_more_is_read_once_they_have_ended():
    made, read = Readers(1), []
    begun, go_on = threading.Event(), threading.Event()

    def first(step):
        begun.set()
        go_on.wait()
        read.append(step)

    made.submit(first, 0)
    made.submit(read.append, 1)
    begun.wait()
    threading.Timer(0.1, go_on.set).start()
    made.end()
    assert read == [0]


def test_a_thread_that_hangs_is_left_behind(monkeypatch):
    monkeypatch.setattr(reader_threads, "_END_S", 0.1)
    made, answered, waits = Readers(2), threading.Event(), threading.Event()

    def hang(_):
        waits.set()
        answered.wait()

    made.submit(hang, 0)
    waits.wait()
    begun = time.monotonic()
    made.end()
    assert time.monotonic() - begun < 5
    hanging = [thread for thread in made._threads if thread.is_alive()]
    assert [thread.daemon for thread in hanging] == [True]
    answered.set()
    hanging[0].join(5)


def test_a_batch_that_nobody_waits_for_is_not_read_to_its_end(cpu, volume):
    from engine.training.batches import Feed
    from tests.engine.tiny import tiny
    from volumes.sampling.examples import Examples

    recipe = tiny("unet3d")
    examples = Examples([volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
    readers, read = Readers(1), []

    class Watched:
        dtype = examples.dtype

        def case(self, i):
            return examples.case(i)

        def __getitem__(self, i):
            read.append(i)
            readers._ended.set()
            return examples[i]

    with pytest.raises(CancelledError):
        Feed(Watched(), 8, cpu.strategy, readers)._shares(0)
    readers.end()
    assert read == [0]
