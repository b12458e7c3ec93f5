import gc
import threading

import numpy as np
import pytest

from engine.training.buffers import Buffers

SHAPE = (2, 3, 4, 5)


def place(array):
    return array.ctypes.data


def test_arrays_are_aligned_for_tensorflow_and_hold_what_was_asked_for():
    buffers = Buffers(2)
    for dtype in (np.int16, np.float32):
        array = buffers.array(SHAPE, dtype)
        assert (array.shape, array.dtype, place(array) % 64) == (SHAPE, dtype, 0)
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_memory_is_used_again_once_its_array_is_gone():
    buffers = Buffers(2)
    array = buffers.array(SHAPE, np.int16)
    first = place(array)
    del array
    assert place(buffers.array(SHAPE, np.int16)) == first


@pytest.mark.parametrize(
    "kept",
    [
        lambda array: array[1:],
        lambda array: array[1:].reshape(-1)[3:].view(np.uint16)[::-1],
        lambda array: memoryview(array),
        lambda array: array.__dlpack__(),
    ],
)
def test_memory_that_anything_refers_to_is_not_used_again(kept):
    buffers = Buffers(8)
    array = buffers.array(SHAPE, np.int16)
    first, held = place(array), kept(array)
    del array
    gc.collect()
    others = [buffers.array(SHAPE, np.int16) for _ in range(4)]
    assert first not in map(place, others)
    del held, others
    gc.collect()
    assert first in {place(a) for a in [buffers.array(SHAPE, np.int16) for _ in range(5)]}


def test_no_more_memory_is_kept_than_asked_for():
    buffers = Buffers(3)
    del (many := {"arrays": [buffers.array(SHAPE, np.int16) for _ in range(10)]})["arrays"]
    assert not many
    assert sum(len(free) for free in buffers._free.values()) == 3


def test_arrays_of_other_sizes_have_memory_of_their_own():
    buffers = Buffers(2)
    buffers.array(SHAPE, np.int16)
    array = buffers.array((7, *SHAPE), np.int16)
    array[...] = 1
    assert array.sum() == array.size


def test_threads_never_share_an_array():
    buffers, wrong = Buffers(4), []

    def work(number):
        for _ in range(2000):
            array = buffers.array((50,), np.int16)
            array[...] = number
            if (array[:] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
