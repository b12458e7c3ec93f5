"""Checkpoints: every variable of a training, whole and verified or not at all.

A checkpoint is a folder `step-00001200/` of three files: state.npz (every variable by its name),
state.json (the step, the best step so far and its score) and MANIFEST.json (the sha256 of the other
two). It is written aside, synced and renamed, so it is either there or not.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.refusals import Mismatch
from volumes import document
from volumes.atomic import cannot_write, make_folder, sync_folder, whole_file
from volumes.digest import sha256

Arrays = dict[str, npt.NDArray[Any]]

_NAME = re.compile(r"^step-(\d{8,})$")
_KEEP = 2


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        step: steps done.
        best_step: the step whose validation scored best, None before the first validation.
        best_mse: its mean squared error, in squared window units.
    """

    step: int = 0
    best_step: int | None = None
    best_mse: float | None = None


def save(folder: Path, arrays: Arrays, progress: Progress) -> Path:
    """Writes a checkpoint, then removes old ones: the two newest and the best remain.

    Raises:
        CannotWrite: where the disk is full or the folder is not to be written.
    """
    final = folder / f"step-{progress.step:08d}"
    aside = folder / f".{final.name}.{os.getpid()}.tmp"
    make_folder(folder)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        with whole_file(aside / "state.npz") as file:
            np.savez(file, allow_pickle=False, **arrays)
        with whole_file(aside / "state.json") as file:
            file.write(_bytes(asdict(progress)))
        manifest = {name: sha256(aside / name) for name in ("state.npz", "state.json")}
        with whole_file(aside / "MANIFEST.json") as file:
            file.write(_bytes(manifest))
        if final.exists():  # a run resumed from before it does this step again
            shutil.rmtree(final)
        os.rename(aside, final)
        sync_folder(folder)
    except OSError as error:
        raise cannot_write(final, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for step in set(steps(folder)) - _kept(folder):
        shutil.rmtree(folder / f"step-{step:08d}", ignore_errors=True)
    return final


def _kept(folder: Path) -> set[int]:
    """The newest steps and the best that each of them knows of: one of them may get damaged."""
    kept = set(steps(folder)[-_KEEP:])
    for step in sorted(kept):
        try:
            best = document.read(folder / f"step-{step:08d}" / "state.json")
            kept.add(best["best_step"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return kept


def sweep(folder: Path) -> None:
    """Removes what killed processes left half-written; call it while holding the run's lock."""
    for aside in folder.glob(".step-*.tmp"):
        shutil.rmtree(aside, ignore_errors=True)


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, in order; whether they verify is not looked at."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _NAME.match(path.name)))


def verified(path: Path) -> Progress:
    """The progress of a checkpoint whose files are what its manifest says.

    Raises:
        Mismatch: where they are not.
    """
    try:
        manifest = document.read(path / "MANIFEST.json")
        for name in ("state.npz", "state.json"):
            if sha256(path / name) != manifest[name]:
                raise ValueError(f"{name} is not what the manifest says")
        progress = Progress(**document.read(path / "state.json"))
        if type(progress.step) is not int:
            raise ValueError("state.json names no step")
        return progress
    except (OSError, ValueError, KeyError, TypeError) as error:
        cause = f"is damaged: {error}"
        raise Mismatch(path, cause, "Choose another checkpoint") from error


def newest(folder: Path, warn: Callable[[str], None]) -> Progress | None:
    """The newest checkpoint that verifies; damaged ones are set aside and said so.

    Returns:
        None where the folder holds no checkpoint at all.

    Raises:
        Mismatch: where it holds checkpoints and none verifies.
    """
    found = steps(folder)
    for step in reversed(found):
        path = folder / f"step-{step:08d}"
        try:
            return verified(path)
        except Mismatch as damage:
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            warn(f"{damage.path}: {damage.cause}; set aside as {aside.name}")
    if found:
        remedy = "Use --fresh to start anew; the run is then moved aside"
        raise Mismatch(folder, "holds no checkpoint that verifies", remedy)
    return None


def load(path: Path, names: set[str] | None = None) -> Arrays:
    """The arrays of a checkpoint that `verified` has passed.

    Args:
        path: of the checkpoint.
        names: that must be there, no more and no less; None takes all.

    Raises:
        Mismatch: where the names differ.
    """
    try:
        _refuse_compressed(path / "state.npz")
        with np.load(path / "state.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
            if any(array.dtype.kind not in "fiub" for array in arrays.values()):
                raise ValueError("state.npz holds what are no numbers")
    except Exception as error:  # numpy and zipfile raise many kinds; each means the same
        raise Mismatch(path, f"is damaged: {error}", "Choose another checkpoint") from error
    if names is not None and names != set(arrays):
        differing = ", ".join(sorted(names ^ set(arrays))[:3])
        remedy = "Use the recipe and the version that wrote it"
        raise Mismatch(path, f"holds other variables than this network: {differing}", remedy)
    return arrays


def _refuse_compressed(path: Path) -> None:
    """Compressed, a small file may unfold to more than the memory holds."""
    with zipfile.ZipFile(path) as members:
        for member in members.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} is compressed")


def fingerprint(path: Path) -> str:
    """sha256 over the bytes of every variable, the optimizer's included, in the order of names."""
    digest = hashlib.sha256()
    for _, array in sorted(load(path).items()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _bytes(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
