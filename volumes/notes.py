"""Notes: small plain data in a file, sealed, so that no changed digit passes for another value."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from volumes import document
from volumes.atomic import whole_file


def read(path: Path) -> dict[str, Any] | None:
    """What a note says; None where there is none, or it is not as it was written."""
    try:
        content = document.read(path)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.pop("crc32", None) != _crc32(content):
        return None
    return content


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes a note, whole or not at all.

    Raises:
        CannotWrite: where the system refuses.
    """
    with whole_file(path, overwrite=True) as file:
        file.write(json.dumps({**content, "crc32": _crc32(content)}).encode())


def _crc32(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
