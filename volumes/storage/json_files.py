"""JSON files: read as data of bounded size, whoever wrote them; sealed ones carry a checksum."""

from __future__ import annotations

import json
import stat
import sys
import zlib
from pathlib import Path
from typing import Any

from volumes.storage.atomic import whole_file

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
    return parse(text)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that float64 holds; true and false are none."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def parse(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: where it is no JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What a sealed file holds; None where there is none, or it is not as it was written."""
    try:
        content = read(path)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.pop("crc32", None) != _crc32(content):
        return None
    return content


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Writes a file with a checksum of its content, whole or not at all.

    Raises:
        CannotWrite: where the system refuses.
    """
    with whole_file(path, overwrite=True) as file:
        file.write(json.dumps({**content, "crc32": _crc32(content)}).encode())


def _crc32(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
