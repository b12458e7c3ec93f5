"""JSON files: untrusted, so their size is bounded. Sealed files include a checksum."""

from __future__ import annotations

import json
import stat
import sys
import zlib
from pathlib import Path
from typing import Any

from volumes.storage.atomic import whole_file

MOST_BYTES = 2**20


def read_json(path: Path, *, most_bytes: int = MOST_BYTES) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: if it cannot be read or is not a regular file. A pipe may never end.
        ValueError: if it is larger than `most_bytes` or not JSON.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "Not a regular file")
    with open(path, "rb") as file:
        text = file.read(most_bytes + 1)
    if len(text) > most_bytes:
        raise ValueError(f"{path.name} is larger than {most_bytes:,} bytes")
    return parse_json(text)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number in the range of float64. Booleans are not numbers."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def parse_json(text: str | bytes) -> Any:
    """The content of a JSON text.

    Raises:
        ValueError: if it is not JSON or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The content of a sealed file; None if it is missing or its checksum is wrong."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.pop("crc32", None) != _crc32(content):
        return None
    return content


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Writes a file with a checksum of its content, atomically.

    Raises:
        CannotWrite: if the system reports an error.
    """
    with whole_file(path, overwrite=True) as file:
        file.write(json.dumps({**content, "crc32": _crc32(content)}).encode())


def _crc32(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
