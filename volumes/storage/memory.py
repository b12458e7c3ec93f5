"""Memory: how much is available for arrays."""

from __future__ import annotations

import os
from contextlib import suppress


def free_bytes() -> int:
    """Bytes available without swapping. They include the page cache, which can be freed."""
    with suppress(OSError, ValueError, StopIteration), open("/proc/meminfo") as lines:
        line = next(line for line in lines if line.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
