"""Digests: what files hold, whatever they are called."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256(*paths: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal; of several, of one after the other."""
    found = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            hashlib.file_digest(file, lambda: found)
    return found.hexdigest()
