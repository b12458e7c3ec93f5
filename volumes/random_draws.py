"""Random draws: the only place where random generators are made.

Every generator is a function of (seed, purpose, key) and has no other state. The numbers therefore
do not depend on the worker, on the order of the draws or on restarts.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt


def _entropy(seed: int, purpose: str, key: tuple[int | str, ...]) -> list[int]:
    # The parts are kept apart, not added: (seed 0, i 5) and (seed 5, i 0) are different streams.
    words = [part if isinstance(part, int) else _word(part) for part in (purpose, *key)]
    # The length tells (5, 0) from (5,): SeedSequence pads with zeros.
    return [seed, len(key), *words]


@lru_cache(maxsize=1024)
def _word(text: str) -> int:
    # A file's name need not be UTF-8: its own bytes count.
    named = text.encode(errors="surrogateescape")
    return int.from_bytes(hashlib.sha256(named).digest()[:8], "little")


def rng(seed: int, purpose: str, *key: int | str) -> np.random.Generator:
    """The random generator of the host for one purpose and key.

    Args:
        seed: of the run, not negative.
        purpose: what the numbers are for, such as "crop" or "noise".
        key: such as the index of an example or (case, slice).

    Example:
        >>> first, again = rng(0, "crop", 5), rng(0, "crop", 5)
        >>> bool(first.random() == again.random())
        True
    """
    return np.random.default_rng(np.random.SeedSequence(_entropy(seed, purpose, key)))


def device_key(seed: int, purpose: str, *key: int | str) -> npt.NDArray[np.int32]:
    """(2,) int32 seed of one stateless draw on the accelerator."""
    words = np.random.SeedSequence(_entropy(seed, purpose, key)).generate_state(2)
    return words.view(np.int32)


def normal(shape: tuple[int, ...], key: Any) -> Any:
    """Standard normal numbers on the accelerator, identical in a graph and under XLA.

    TensorFlow's float generators give different numbers under XLA and in a graph; its integer
    generators do not. Philox bits are therefore converted to uniform numbers, and these to normal
    numbers by the transform of Box and Muller (Ann. Math. Stat. 29, 1958).

    Args:
        shape: static shape of the result.
        key: (2,) int32 tensor from `device_key`.

    Returns:
        A float32 tensor of the shape.
    """
    import tensorflow as tf

    bits = tf.random.stateless_uniform((2, *shape), key, None, None, tf.uint32, alg="philox")
    # float32 represents 24 bits exactly. u lies in [0, 1), so 1 - u is never zero.
    uniform = tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) * 2**-24
    return tf.sqrt(-2.0 * tf.math.log(1.0 - uniform[0])) * tf.cos(2.0 * np.pi * uniform[1])
