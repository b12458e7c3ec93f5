"""Regular files that are untrusted: symlinks are refused, and pipes are not waited for."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """Opens a regular file for reading.

    Raises:
        OSError: if it cannot be opened, or is a symlink.
        ValueError: if it is a pipe, a device or a folder.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path.name} is not a regular file")
    return open(descriptor, "rb")


def read_within(folder: Path, name: str, most_bytes: int) -> bytes:
    """The content of a regular file in a folder, below sub-folders that are no symlinks.

    Raises:
        OSError: if it cannot be read, or is a symlink.
        ValueError: if it is no regular file, has more bytes, or lies in a symlink.
    """
    path = folder / name
    for place in path.parents[: len(Path(name).parts) - 1]:
        if place.is_symlink():
            raise ValueError(f"{place.name} is a symlink")
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{path.name} has more than {most_bytes:,} bytes")
    return content
