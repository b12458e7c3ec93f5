"""Checkpoints: every variable of a training, whole and verified or not at all.

A checkpoint is a folder `step-00001200/` of three files, see `engine.checkpoints.manifest`. It is
written aside, synced, read back and renamed, so it is either there or not; only then do older ones go. One
that is damaged is never deleted: it is set aside under another name.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from engine.checkpoints import archive, manifest
from engine.checkpoints.archive import ArrayHeader, Arrays
from engine.checkpoints.manifest import Progress
from engine.errors import CannotWrite, Damaged, DiskFull, Mismatch
from volumes.storage.atomic import cannot_write, make_folder, sync_folder

__all__ = [
    "ArrayHeader", "Arrays", "Progress", "fingerprint", "fingerprint_of", "load", "newest", "place",
    "save", "step_of", "steps", "sweep", "verified", "weights",
]  # fmt: skip

_NAME = re.compile(r"^step-(\d{8,})$")
_ASIDE = re.compile(r"^(damaged|replaced)-step-\d{8,}(\.\d+)?$")
_KEEP = 2
_ROOM = 2.2  # times the size of a checkpoint: the new one, and as much again for what else goes on
_OTHER = "Use the recipe and the version that wrote it"


# -- Writing ---------------------------------------------------------------------------------------


def save(folder: Path, arrays: Arrays, progress: Progress) -> Path:
    """Writes a checkpoint, then removes old ones: the two newest that verify and the best remain.

    Raises:
        DiskFull: where there is not enough room, or it runs out; the older ones are as they were.
        CannotWrite: where the folder is not to be written, or the disk returns other bytes.
    """
    final = place(folder, progress.step)
    aside = _temporary(final)
    make_folder(folder)
    try:
        _refuse_full(final, arrays)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        manifest.write_files(aside, arrays, progress)
        _verified(aside, progress.step)
        if os.path.lexists(final):  # a run resumed from before it does this step again
            if _same(aside, final):
                return final
            _set_aside(final, "replaced")
        os.rename(aside, final)
        sync_folder(folder)
    except OSError as error:
        raise cannot_write(final, error) from error
    except Damaged as damage:
        cause = f"does not read back as it was written: it {damage.cause}"
        raise CannotWrite(final, cause, "Check the disk") from damage
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _prune(folder)
    return final


def _refuse_full(final: Path, arrays: Arrays) -> None:
    """Refuses to begin what would not fit; some file systems do not tell how much room they have.

    Raises:
        DiskFull: telling the room and the need.
    """
    told = os.statvfs(final.parent)
    need, free = (
        _ROOM * sum(array.nbytes for array in arrays.values()),
        told.f_bavail * told.f_frsize,
    )
    if told.f_blocks and free < need:
        cause = f"needs {need / 2**20:,.1f} MiB, and the disk has {free / 2**20:,.1f} MiB left"
        raise DiskFull(final, cause, "Free some space, or choose another place")


def _prune(folder: Path) -> None:
    """Removes all but the newest, until two have been found that verify, and the best of these."""
    kept: set[int | None] = set()
    whole = 0
    for step in reversed(steps(folder)):
        if whole == _KEEP:
            break
        kept.add(step)
        with suppress(Mismatch):
            kept.add(verified(place(folder, step)).best_step)
            whole += 1
    old = [place(folder, step) for step in sorted(set(steps(folder)) - kept)]
    with suppress(OSError):  # the next save tries again
        # Renamed first: nothing that bears the name of a checkpoint is ever half there.
        for path in old:
            os.rename(path, _temporary(path))
        if old:
            sync_folder(folder)
        for path in old:
            shutil.rmtree(_temporary(path), ignore_errors=True)


def sweep(folder: Path) -> None:
    """Removes what killed processes left half-written; call it while holding the run's lock."""
    for aside in folder.glob(".step-*.tmp"):
        shutil.rmtree(aside, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _set_aside(path: Path, why: str) -> Path:
    """Renames a checkpoint out of the way; what was set aside before stays."""
    aside, count = path.with_name(f"{why}-{path.name}"), 0
    while os.path.lexists(aside):
        count += 1
        aside = path.with_name(f"{why}-{path.name}.{count}")
    try:
        os.rename(path, aside)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    return aside


def _same(one: Path, other: Path) -> bool:
    try:
        return (other / "MANIFEST.json").read_bytes() == (one / "MANIFEST.json").read_bytes() and (
            verified(other) is not None
        )
    except (OSError, Mismatch):
        return False


# -- Reading ---------------------------------------------------------------------------------------


def place(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step of a checkpoint, from its name."""
    match = _NAME.match(path.name)
    assert match, f"{path} is no checkpoint"
    return int(match[1])


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, in order; whether they verify is not looked at.

    Raises:
        Mismatch: where the folder may not be read.
    """
    return sorted(int(match[1]) for name in _names(folder) if (match := _NAME.match(name)))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise manifest.unreadable_checkpoint(folder, error) from error


def newest(folder: Path, warn: Callable[[str], None]) -> Progress | None:
    """The newest checkpoint that verifies; damaged ones are set aside and said so.

    Returns:
        None where the folder holds no checkpoint, and none that was set aside.

    Raises:
        Mismatch: where it holds some and none verifies, or they cannot be read.
        CannotWrite: where a damaged one cannot be set aside.
    """
    for step in reversed(steps(folder)):
        path = place(folder, step)
        try:
            return verified(path)
        except Damaged as damage:
            aside = _set_aside(path, "damaged")
            warn(f"{damage.path}: {damage.cause}; set aside as {aside.name}")
    if any(_ASIDE.match(name) for name in _names(folder)):
        remedy = "Use --fresh to start anew; the run is then moved aside"
        raise Mismatch(folder, "holds no checkpoint that verifies", remedy)
    return None


def verified(path: Path) -> Progress:
    """The progress of a checkpoint whose files are what its manifest says.

    Raises:
        Damaged: where they are not, or it is another step than its name says.
        Mismatch: where they cannot be read.
    """
    return _verified(path, step_of(path))


def _verified(path: Path, step: int) -> Progress:
    with manifest.described(path, step) as (_, progress):
        return progress


def load(path: Path, wanted: Mapping[str, ArrayHeader] | None = None) -> Arrays:
    """The arrays of a checkpoint that verifies; another process may remove it meanwhile.

    Args:
        path: of the checkpoint.
        wanted: what must be there, no more and no less; None takes all.

    Raises:
        Mismatch: where names, shapes or datatypes differ, or the files are damaged.
    """
    with manifest.described(path, step_of(path)) as (file, _):
        try:
            found = archive.headers(file)
            differing = None if wanted is None else archive.difference(found, wanted)
            if differing is None:
                file.seek(0)
                return archive.read_arrays(file)
        except Exception as error:  # zipfile and numpy raise many kinds; the bytes are as written
            raise manifest.damaged(path, error) from error
    raise Mismatch(path, differing, _OTHER)


def weights(arrays: Arrays) -> Arrays:
    """The weights of a network as they are applied, by `model/` and their path.

    Where a training keeps an average of its weights, that is what is applied.
    """
    averaged = {
        f"model/{name.removeprefix('average/')}": array
        for name, array in arrays.items()
        if name.startswith("average/")
    }
    return averaged or {n: array for n, array in arrays.items() if n.startswith("model/")}


def fingerprint(path: Path) -> str:
    """sha256 over the bytes of every variable, the optimizer's included, in the order of names."""
    return fingerprint_of(load(path))


def fingerprint_of(arrays: Arrays) -> str:
    """sha256 over the bytes of every array, in the order of names."""
    digest = hashlib.sha256()
    for _, array in sorted(arrays.items()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
