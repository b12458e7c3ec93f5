"""The machine of a benchmark: its kind, and the memory of this process."""

from __future__ import annotations

import os
import re
from contextlib import suppress

# The widest vector instructions that TensorFlow and PyTorch compute with, and their flags in Linux.
_VECTORS = {"AVX-512": "avx512f", "AVX2": "avx2", "NEON": "asimd"}


def kind() -> str:
    """The number of cores and the vector instructions, such as "2 cores, AVX-512"."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = set(_text("/proc/cpuinfo").split())
    vectors = [f", {name}" for name, flag in _VECTORS.items() if flag in words]
    return f"{cores} cores{vectors[0] if vectors else ''}"


def resident_bytes() -> int | None:
    """The memory of this process now; None if the system does not tell it."""
    return _bytes("VmRSS")


def peak_bytes() -> int | None:
    """The largest memory of this process so far; None if the system does not tell it.

    `getrusage` would also count the peak of the process that started this one.
    """
    return _bytes("VmHWM")


def _bytes(field: str) -> int | None:
    found = re.search(rf"{field}:\s+(\d+) kB", _text("/proc/self/status"))
    return int(found[1]) * 1024 if found else None


def _text(path: str) -> str:
    with suppress(OSError), open(path) as file:
        return file.read()
    return ""
