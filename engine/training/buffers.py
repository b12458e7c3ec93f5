"""Buffers: arrays for batches, in memory that is used again once nothing refers to it.

A fresh array of several MB costs more than the copy into it: the system clears each of its pages
when it is first written to.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

_ALIGNED = 64  # bytes: what TensorFlow's kernels expect of a tensor


class Buffers:
    """Arrays that are not cleared. It is safe to use from several threads.

    The memory of an array is free when the array is gone, with all its views and all the tensors
    that share it, however long a device works on them.

    Args:
        spare: the free pieces of memory of one size that are kept.

    Example:
        >>> buffers = Buffers(spare=2)
        >>> array = buffers.array((2, 3), np.int16)
        >>> place, view = array.ctypes.data, array[1:]
        >>> del array
        >>> other = buffers.array((2, 3), np.int16)
        >>> other.ctypes.data == place
        False
        >>> del view
        >>> buffers.array((2, 3), np.int16).ctypes.data == place
        True
    """

    def __init__(self, spare: int) -> None:
        self._spare = spare
        # The last piece that became free is the next to be used: it may still be in a cache. The
        # methods of a deque may be called by threads, and by the end of an array in any of them.
        self._free: dict[int, deque[npt.NDArray[np.uint8]]] = defaultdict(deque)

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array with any content, aligned as TensorFlow needs it to share its memory."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        free = self._free[size]
        try:
            memory = free.pop()
        except IndexError:
            memory = _aligned(size)
        return np.asarray(_Lent(memory, shape, dtype, partial(self._give_back, free)))

    def _give_back(self, free: deque[npt.NDArray[np.uint8]], memory: npt.NDArray[np.uint8]) -> None:
        if len(free) < self._spare:
            free.append(memory)


class _Lent:
    """What all views of a lent array refer to. It returns the memory in its end.

    The array of the memory would not do: views of a view refer to the array that owns the memory,
    and that is never gone.
    """

    def __init__(
        self, memory: npt.NDArray[np.uint8], shape: tuple[int, ...], dtype: npt.DTypeLike,
        give_back: Callable[[npt.NDArray[np.uint8]], None],
    ) -> None:  # fmt: skip
        self._memory, self._give_back = memory, give_back
        self.__array_interface__ = memory.view(dtype).reshape(shape).__array_interface__

    def __del__(self) -> None:
        self._give_back(self._memory)


def _aligned(size: int) -> npt.NDArray[np.uint8]:
    memory = np.empty(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size]
