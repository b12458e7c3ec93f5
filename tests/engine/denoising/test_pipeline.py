import os
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest

from engine.denoising import pipeline
from engine.denoising.pipeline import Ahead, Behind, Worker


@pytest.fixture(params=[1, 4])
def processors(request, monkeypatch):
    monkeypatch.setattr(pipeline, "processors", lambda: request.param)
    return request.param


@pytest.fixture
def several(monkeypatch):
    monkeypatch.setattr(pipeline, "processors", lambda: 4)


def test_results_are_those_of_the_function_in_any_order(processors):
    with Worker("ahead") as worker:
        square = Ahead(lambda n: n * n, range(9), worker)
        asked = [0, 1, 2, 7, 3, 3, 4, 5, 6, 7, 8, 8]
        assert [square(n) for n in asked] == [n * n for n in asked]


@pytest.mark.usefixtures("several")
def test_one_result_is_made_while_the_last_is_used_and_no_more():
    made, second = [], threading.Event()

    def make(n):
        made.append((n, threading.current_thread().name))
        if n == 1:
            second.set()
        return n

    with Worker("ahead") as worker:
        ahead = Ahead(make, range(4), worker)
        ahead(0)
        assert second.wait(10)
        time.sleep(0.05)
        assert made == [(0, "MainThread"), (1, "ahead")]


@pytest.mark.usefixtures("several")
def test_nothing_is_made_ahead_that_does_not_fit():
    with Worker("ahead") as worker:
        names = []
        make = lambda n: names.append(threading.current_thread().name)  # noqa: E731
        ahead = Ahead(make, range(3), worker, fits=lambda n: n != 1)
        for n in range(3):
            ahead(n)
    assert names == ["MainThread", "MainThread", "ahead"]


def test_an_error_is_raised_where_its_result_is_used_and_the_next_is_made(processors):
    def make(n):
        if n == 1:
            raise ValueError("of 1")
        return n

    with Worker("ahead") as worker:
        ahead = Ahead(make, range(3), worker)
        assert ahead(0) == 0
        with pytest.raises(ValueError, match="of 1"):
            ahead(1)
        assert ahead(2) == 2


def test_tasks_are_done_in_order_and_counted(processors):
    done, counts = [], []
    with Worker("behind") as worker:
        behind = Behind(worker)
        for n in range(5):
            counts.append(behind.put(partial(done.append, n)))
            assert len(done) >= n  # at most one waits
        assert behind.wait() == 5
    assert done == [0, 1, 2, 3, 4]
    assert counts == ([1, 2, 3, 4, 5] if processors == 1 else [0, 1, 2, 3, 4])


def test_the_error_of_a_task_is_raised_once(processors):
    def fail():
        raise ValueError("behind")

    with Worker("behind") as worker:
        behind = Behind(worker)
        with pytest.raises(ValueError, match="behind"):  # noqa: PT012
            behind.put(fail)
            behind.put(time.monotonic)
        behind.wait()


@pytest.mark.usefixtures("several")
def test_a_task_that_has_failed_is_noticed_before_the_next_one():
    def fail():
        raise ValueError("behind")

    with Worker("behind") as worker:
        behind = Behind(worker)
        behind.check()
        behind.put(fail)
        with pytest.raises(ValueError, match="behind"):  # noqa: PT012
            for _ in range(1000):
                behind.check()
                time.sleep(0.01)


def test_one_processor_needs_no_thread(monkeypatch):
    monkeypatch.setattr(pipeline, "processors", lambda: 1)
    before, names = threading.active_count(), []
    with Worker("idle") as worker:
        behind = Behind(worker)
        ahead = Ahead(lambda n: names.append(threading.active_count()), range(3), worker)
        for n in range(3):
            ahead(n)
            behind.put(lambda: names.append(threading.active_count()))
    assert set(names) == {before}


@pytest.mark.usefixtures("several")
def test_ctrl_c_ends_a_task_like_the_main_thread_and_drops_those_that_wait():
    began, ended, dropped = threading.Event(), [], []

    def work():
        began.set()
        try:
            while True:
                time.sleep(0.001)
        finally:
            ended.append("cleaned up")

    since = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Worker("stops") as worker:  # noqa: PT012
        worker.submit(work)
        worker.submit(partial(dropped.append, 1))
        assert began.wait(10)
        raise KeyboardInterrupt
    assert time.monotonic() - since < 1
    assert (ended, dropped) == (["cleaned up"], [])


@pytest.mark.usefixtures("several")
def test_an_error_lets_tasks_end_that_have_begun():
    done = []
    with pytest.raises(ValueError, match="mine"), Worker("ends") as worker:  # noqa: PT012
        worker.submit(lambda: (time.sleep(0.05), done.append(1)))
        raise ValueError("mine")
    assert done == [1]


@pytest.mark.usefixtures("several")
def test_a_thread_that_waits_holds_nothing():
    import gc
    import weakref

    with Worker("waits") as worker:
        array = np.zeros(8)
        held = weakref.ref(array)
        worker.submit(partial(np.sum, array)).result()
        worker.submit(time.monotonic).result()
        del array
        gc.collect()
        assert held() is None


@pytest.mark.usefixtures("several")
def test_ctrl_c_while_the_last_tasks_are_waited_for_leaves_no_thread(request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    begun = threading.Event()

    def slow():
        begun.set()
        for _ in range(40):
            time.sleep(0.01)

    def stop():
        begun.wait()
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), Worker("behind") as worker:  # noqa: PT012
        worker.submit(slow)
        worker.submit(slow)
        threading.Thread(target=stop).start()
    assert threading.active_count() == threads


@pytest.mark.usefixtures("several")
def test_ctrl_c_while_the_thread_is_started_leaves_no_thread(monkeypatch):
    class Late(threading.Event):
        """Ctrl-C comes while the thread is waited for that has not begun yet."""

        def wait(self, timeout=None):
            raise KeyboardInterrupt

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), Worker("starts") as worker:  # noqa: PT012
        worker._thread._started = Late()
        worker.submit(time.monotonic)
    assert threading.active_count() == threads
