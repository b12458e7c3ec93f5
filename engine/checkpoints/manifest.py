"""The manifest: the three files of a checkpoint and their hashes.

state.npz contains all variables by name, state.json the progress of the training, MANIFEST.json the
SHA-256 of both. Checkpoint files are untrusted: symlinks and pipes are refused, JSON is bounded.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
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
from volumes.storage.regular_files import open_regular

# Errors that mean a damaged checkpoint. Other errors may be temporary.
_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EIO)


@dataclass(frozen=True)
class Progress:
    """The progress of a training.

    Attributes:
        step: number of completed steps.
        best_step: the step with the best validation; None before the first validation.
        best_mse: its mean squared error, in squared window units.
        best_score: its score by the metric of the recipe; None if that is the error.
        recipe: fingerprint of the recipe; None if it was not recorded.
        unvalidated: whether a stop was requested during the validation of this step: it is due when
            the training continues.
    """

    step: int = 0
    best_step: int | None = None
    best_mse: float | None = None
    recipe: str | None = None
    unvalidated: bool = False
    best_score: float | None = None


def write_files(folder: Path, arrays: Arrays, progress: Progress) -> None:
    """Writes the files of a checkpoint into a folder, and syncs them.

    The manifest contains the hashes of the bytes handed to write(), so that `described` detects a
    disk that stored other bytes.

    Raises:
        OSError: if the system reports an error.
    """
    content = asdict(progress)
    for name, usual in (("unvalidated", False), ("best_score", None)):
        if content[name] is usual:
            del content[name]
    state = _bytes(content)
    with synced_file(folder / "state.npz") as file:
        manifest = {"state.npz": archive.write_arrays(file, arrays)}
    with synced_file(folder / "state.json") as file:
        file.write(state)
    manifest["state.json"] = hashlib.sha256(state).hexdigest()
    with synced_file(folder / "MANIFEST.json") as file:
        file.write(_bytes(manifest))
    sync_folder(folder)


@contextmanager
def described(path: Path, step: int) -> Iterator[tuple[BufferedReader, Progress]]:
    """The open file of the arrays and the progress of a checkpoint, after verification.

    The open file stays readable even if another process removes the checkpoint.

    Args:
        path: of its folder.
        step: the step that it must have.

    Raises:
        Damaged: if the files do not match the manifest, or have another step.
        Mismatch: if they cannot be read.
    """
    with _converting_errors(path):
        if path.is_symlink():
            raise ValueError("is a symlink")
        manifest = json_files.parse_json(_text(path / "MANIFEST.json"))
        if not isinstance(manifest, dict) or set(manifest) != {"state.npz", "state.json"}:
            raise ValueError("MANIFEST.json does not name state.npz and state.json")
        state = _text(path / "state.json")
        if hashlib.sha256(state).hexdigest() != manifest["state.json"]:
            raise ValueError("state.json has another hash than in MANIFEST.json")
        progress = _progress(json_files.parse_json(state), step)
        opened = open_regular(path / "state.npz")
    with opened as file:
        with _converting_errors(path):
            if hashlib.file_digest(file, "sha256").hexdigest() != manifest["state.npz"]:
                raise ValueError("state.npz has another hash than in MANIFEST.json")
            file.seek(0)
        yield file, progress


@contextmanager
def _converting_errors(path: Path) -> Iterator[None]:
    """Converts errors: to Damaged, or to Mismatch if reading may succeed later."""
    try:
        yield
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, OSError) and error.errno not in _DAMAGE:
            raise unreadable_checkpoint(path, error) from error
        raise damaged(path, error) from error


def _text(path: Path) -> bytes:
    with open_regular(path) as file:
        text = file.read(json_files.MOST_BYTES + 1)
    if len(text) > json_files.MOST_BYTES:
        raise ValueError(f"{path.name} is longer than {json_files.MOST_BYTES:,} bytes")
    return text


def _progress(content: Any, step: int) -> Progress:
    """The content of state.json, after checks of its values."""
    if not isinstance(content, dict):
        raise ValueError("state.json is not a JSON object")
    progress = Progress(**content)
    best, mse = progress.best_step, progress.best_mse
    if type(progress.step) is not int or progress.step != step:
        raise ValueError(f"state.json is of step {progress.step}")
    if best is not None and (type(best) is not int or not 0 <= best <= progress.step):
        raise ValueError(f"state.json has an invalid best step, {best}")
    if mse is not None and (type(mse) not in (int, float) or not 0 <= mse < math.inf):
        raise ValueError(f"state.json has an invalid best error, {mse}")
    score = progress.best_score
    if score is not None and not json_files.is_number(score):
        raise ValueError(f"state.json has an invalid best score, {score}")
    if progress.recipe is not None and type(progress.recipe) is not str:
        raise ValueError("state.json has an invalid recipe")
    if type(progress.unvalidated) is not bool:
        raise ValueError("state.json has an invalid mark of its validation")
    return progress


def damaged(path: Path, error: Exception) -> Damaged:
    """The error for a damaged checkpoint."""
    return Damaged(path, f"is damaged: {error}", "Choose another checkpoint")


def unreadable_checkpoint(path: Path, error: OSError) -> Mismatch:
    """The error for a checkpoint that cannot be read now, but may be intact."""
    return Mismatch(path, f"cannot be read: {error.strerror or error}", "Solve this and try again")


def _bytes(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
