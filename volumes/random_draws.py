"""Draws: the one door to randomness.

Every generator is a function of (seed, purpose, key): nothing depends on what was drawn before, so
any worker, any order and any restart gives the same numbers.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt


def _entropy(seed: int, purpose: str, key: tuple[int | str, ...]) -> list[int]:
    # Words are hashed, never added: (seed 0, i 5) and (seed 5, i 0) are different streams.
    words = [part if isinstance(part, int) else _word(part) for part in (purpose, *key)]
    # A key that ends in zeros is not the shorter one: SeedSequence itself pads with zeros.
    return [seed, len(key), *words]


def _word(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def rng(seed: int, purpose: str, *key: int | str) -> np.random.Generator:
    """The host's generator for one purpose and key.

    Args:
        seed: of the run, not negative.
        purpose: what the numbers are for, such as "crop" or "noise".
        key: which of them, such as the index of an example or (case, slice).
    """
    return np.random.default_rng(np.random.SeedSequence(_entropy(seed, purpose, key)))


def device_key(seed: int, purpose: str, *key: int | str) -> npt.NDArray[np.int32]:
    """(2,) int32: the seed of one stateless draw on the accelerator."""
    words = np.random.SeedSequence(_entropy(seed, purpose, key)).generate_state(2)
    return words.view(np.int32)


def normal(shape: tuple[int, ...], key: Any) -> Any:
    """Standard normal numbers on the accelerator, the same in a graph and under XLA.

    TensorFlow's own float generators give other numbers under XLA than in a graph; its integer
    generators do not. So Philox bits become uniform numbers and Box and Muller (Ann. Math.
    Stat. 29, 1958) make them normal.

    Args:
        shape: static shape of the result.
        key: (2,) int32 tensor from `device_key`.

    Returns:
        A float32 tensor of the shape.
    """
    import tensorflow as tf

    bits = tf.random.stateless_uniform((2, *shape), key, None, None, tf.uint32, alg="philox")
    # 24 bits are what a float32 holds exactly: uniform in [0, 1), so 1 - u never is zero.
    uniform = tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) * 2**-24
    return tf.sqrt(-2.0 * tf.math.log(1.0 - uniform[0])) * tf.cos(2.0 * np.pi * uniform[1])
