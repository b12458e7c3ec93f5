"""Documents: JSON files, which anybody may have written, read as data of a bounded size."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

MOST_BYTES = 2**20


def read(path: Path, *, most_bytes: int = MOST_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: where it cannot be read, or is no regular file: a pipe would never end.
        ValueError: where it is larger than `most_bytes`, or no JSON.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "Not a regular file")
    with open(path, "rb") as file:
        text = file.read(most_bytes + 1)
    if len(text) > most_bytes:
        raise ValueError(f"{path.name} is larger than {most_bytes:,} bytes")
    return parsed(text)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that float64 holds; true and false are none."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def parsed(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: where it is no JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
