"""The manifest: what makes three files one checkpoint.

state.npz holds every variable by its name, state.json how far the training has come, MANIFEST.json
the sha256 of both. Nothing that is read here is believed: no link is followed, no pipe waited for,
no text of any length parsed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from engine.checkpoints import archive
from engine.checkpoints.archive import Arrays
from engine.errors import Damaged, Mismatch
from volumes.storage import json_files
from volumes.storage.atomic import sync_folder, synced_file

# What reading says of a folder that was once whole; all else is said of the machine that reads it.
_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EIO)


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        step: steps done.
        best_step: the step whose validation scored best, None before the first validation.
        best_mse: its mean squared error, in squared window units.
        recipe: fingerprint of what it was trained by, None where that was not noted.
    """

    step: int = 0
    best_step: int | None = None
    best_mse: float | None = None
    recipe: str | None = None


def write_files(aside: Path, arrays: Arrays, progress: Progress) -> None:
    """Writes the files of a checkpoint into a folder, and all of it to the disk.

    The manifest holds what was meant, so that `described` notices a disk that kept something else.

    Raises:
        OSError: where the system refuses.
    """
    state = _bytes(asdict(progress))
    with synced_file(aside / "state.npz") as file:
        manifest = {"state.npz": archive.write_arrays(file, arrays)}
    with synced_file(aside / "state.json") as file:
        file.write(state)
    manifest["state.json"] = hashlib.sha256(state).hexdigest()
    with synced_file(aside / "MANIFEST.json") as file:
        file.write(_bytes(manifest))
    sync_folder(aside)


@contextmanager
def described(path: Path, step: int) -> Iterator[tuple[BufferedReader, Progress]]:
    """The file of the arrays and the progress of a checkpoint that verifies.

    The file stays readable while it is open, though another process may remove the checkpoint.

    Args:
        path: of its folder.
        step: that it must be of.

    Raises:
        Damaged: where the files are not what the manifest says, or of another step.
        Mismatch: where they cannot be read.
    """
    with _judged(path):
        if path.is_symlink():
            raise ValueError("is a link")
        manifest = json_files.parse_json(_text(path / "MANIFEST.json"))
        if not isinstance(manifest, dict) or set(manifest) != {"state.npz", "state.json"}:
            raise ValueError("MANIFEST.json names other files")
        state = _text(path / "state.json")
        if hashlib.sha256(state).hexdigest() != manifest["state.json"]:
            raise ValueError("state.json is not what the manifest says")
        progress = _progress(json_files.parse_json(state), step)
        opened = _opened(path / "state.npz")
    with opened as file:
        with _judged(path):
            if hashlib.file_digest(file, "sha256").hexdigest() != manifest["state.npz"]:
                raise ValueError("state.npz is not what the manifest says")
            file.seek(0)
        yield file, progress


@contextmanager
def _judged(path: Path) -> Iterator[None]:
    """Tells damage from a machine that cannot read at the moment."""
    try:
        yield
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, OSError) and error.errno not in _DAMAGE:
            raise unreadable_checkpoint(path, error) from error
        raise damaged(path, error) from error


def _opened(path: Path) -> BufferedReader:
    """A regular file; a link could lead anywhere, and a pipe would be waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = open(descriptor, "rb")  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise ValueError(f"{path.name} is no file")
    return file


def _text(path: Path) -> bytes:
    with _opened(path) as file:
        text = file.read(json_files.MOST_BYTES + 1)
    if len(text) > json_files.MOST_BYTES:
        raise ValueError(f"{path.name} is longer than {json_files.MOST_BYTES:,} bytes")
    return text


def _progress(content: Any, step: int) -> Progress:
    """What state.json says, where it can be true."""
    if not isinstance(content, dict):
        raise ValueError("state.json is no object")
    progress = Progress(**content)
    best, mse = progress.best_step, progress.best_mse
    if type(progress.step) is not int or progress.step != step:
        raise ValueError(f"state.json is of step {progress.step}")
    if best is not None and (type(best) is not int or not 0 <= best <= progress.step):
        raise ValueError(f"state.json knows a best step {best}")
    if mse is not None and (type(mse) not in (int, float) or not 0 <= mse < math.inf):
        raise ValueError(f"state.json knows a best error {mse}")
    if progress.recipe is not None and type(progress.recipe) is not str:
        raise ValueError("state.json knows no recipe")
    return progress


def damaged(path: Path, error: Exception) -> Damaged:
    """The refusal that a damaged checkpoint is."""
    return Damaged(path, f"is damaged: {error}", "Choose another checkpoint")


def unreadable_checkpoint(path: Path, error: OSError) -> Mismatch:
    """The refusal of what may be whole, and cannot be read at the moment."""
    return Mismatch(path, f"cannot be read: {error.strerror or error}", "Mend that and try again")


def _bytes(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
