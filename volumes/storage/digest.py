"""Digests: SHA-256 of the content of files."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256(*paths: Path) -> str:
    """The SHA-256 of one file, or of several files concatenated, in hexadecimal."""
    return begun(*paths).hexdigest()


def begun(*paths: Path) -> hashlib._Hash:
    """The SHA-256 of the files before another one, whose bytes are added by the caller."""
    found = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            hashlib.file_digest(file, lambda: found)
    return found
