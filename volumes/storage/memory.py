"""Memory: how much is available for arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# A cgroup's limit, its use, and the part of it that is page cache. A group without a limit has no
# number.
_V1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
_V2 = "memory.max", "memory.current", "inactive_file"


def free_bytes() -> int:
    """Bytes available without swapping. They include the page cache, which can be freed.

    It is what the machine has left, or less if the cgroup of this process, as of a container or of
    a batch job, has a lower limit.
    """
    return max(0, min([_free_of_the_machine(), *_left_in_groups()]))


def _free_of_the_machine() -> int:
    with suppress(OSError, ValueError, StopIteration), open("/proc/meminfo") as lines:
        line = next(line for line in lines if line.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_in_groups(
    groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Iterator[int]:
    """Bytes left in each cgroup with a limit that holds this process: its own and those above."""
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                root, names = groups / "memory", _V1
            elif not controllers:
                root, names = groups, _V2
            else:
                continue
            # A container does not see the groups above its own: they are then not under the root.
            place = root / path.lstrip("/")
            for group in (place, *place.parents):
                if group.is_relative_to(root):
                    with suppress(OSError, ValueError):
                        yield _left(group, *names)


def _left(group: Path, limit: str, use: str, cached: str) -> int:
    most, used, freed = int((group / limit).read_text()), 0, 0
    with suppress(OSError, ValueError):
        used = int((group / use).read_text())
        rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        freed = int(rows.get(cached, 0))
    return most - used + freed
