"""Checkpoints: all variables of a training, written atomically and verified.

A checkpoint is a folder `step-00001200/` of three files, see `engine.checkpoints.manifest`. It is
written under a temporary name, synced, read back and renamed. Only then are older ones removed. A
damaged checkpoint is detected by its hashes. It is never deleted, but renamed.
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
_ROOM = 2.2  # required free space over the size of a checkpoint: other processes also write
_OTHER = "Use the recipe and the version that wrote it"


# -- Writing ---------------------------------------------------------------------------------------


def save(folder: Path, arrays: Arrays, progress: Progress) -> Path:
    """Writes a checkpoint, then removes old ones. The two newest intact ones and the best remain.

    Raises:
        DiskFull: if there is not enough space. The older checkpoints are unchanged.
        CannotWrite: if the folder cannot be written, or the disk returns other bytes.
    """
    final = place(folder, progress.step)
    temporary = _temporary(final)
    make_folder(folder)
    try:
        _refuse_full(final, arrays)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        manifest.write_files(temporary, arrays, progress)
        _verified(temporary, progress.step)
        if os.path.lexists(final):  # a resumed run repeats this step
            if _same(temporary, final):
                return final
            _set_aside(final, "replaced")
        os.rename(temporary, final)
        sync_folder(folder)
    except OSError as error:
        raise cannot_write(final, error) from error
    except Damaged as damage:
        cause = f"does not read back as it was written: it {damage.cause}"
        raise CannotWrite(final, cause, "Check the disk") from damage
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _prune(folder)
    return final


def _refuse_full(final: Path, arrays: Arrays) -> None:
    """Refuses a checkpoint that does not fit on the disk.

    Raises:
        DiskFull: with the required and the free space.
    """
    disk = os.statvfs(final.parent)
    need = _ROOM * sum(array.nbytes for array in arrays.values())
    free = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and free < need:  # f_blocks is 0 if the file system does not know its size
        cause = f"needs {need / 2**20:,.1f} MiB, and the disk has {free / 2**20:,.1f} MiB left"
        raise DiskFull(final, cause, "Free some space, or choose another place")


def _prune(folder: Path) -> None:
    """Removes old checkpoints, except the two newest intact ones, newer ones, and the best."""
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
        # Renamed first, so that no folder named as a checkpoint is ever incomplete.
        for path in old:
            os.rename(path, _temporary(path))
        if old:
            sync_folder(folder)
        for path in old:
            shutil.rmtree(_temporary(path), ignore_errors=True)


def sweep(folder: Path) -> None:
    """Removes temporary folders of killed processes. The caller must hold the run's lock."""
    for temporary in folder.glob(".step-*.tmp"):
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _set_aside(path: Path, why: str) -> Path:
    """Renames a checkpoint. Checkpoints that were set aside earlier are kept."""
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
    """The path of the checkpoint of a step.

    Example:
        >>> place(Path("checkpoints"), 1200).name
        'step-00001200'
    """
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step of a checkpoint, from its name."""
    match = _NAME.match(path.name)
    assert match, f"{path} is no checkpoint"
    return int(match[1])


def steps(folder: Path) -> list[int]:
    """The sorted steps of the checkpoints in a folder. The checkpoints are not verified.

    Raises:
        Mismatch: if the folder cannot be read.
    """
    return sorted(int(match[1]) for name in _names(folder) if (match := _NAME.match(name)))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise manifest.unreadable_checkpoint(folder, error) from error


def newest(folder: Path, warn: Callable[[str], None], *, rename: bool = True) -> Progress | None:
    """The progress of the newest intact checkpoint. Damaged ones are renamed, with a warning.

    Args:
        folder: of the checkpoints.
        warn: called with a message about each damaged one.
        rename: False only warns of them, and writes nothing.

    Returns:
        None if the folder has no checkpoint, not even a damaged one.

    Raises:
        Mismatch: if it has checkpoints but no intact one, or they cannot be read.
        CannotWrite: if a damaged one cannot be renamed.
    """
    damaged = False
    for step in reversed(steps(folder)):
        path = place(folder, step)
        try:
            return verified(path)
        except Damaged as damage:
            damaged = True
            if not rename:
                warn(f"{damage.path}: {damage.cause}; a training renames it")
                continue
            aside = _set_aside(path, "damaged")
            warn(f"{damage.path}: {damage.cause}; renamed to {aside.name}")
    if damaged or any(_ASIDE.match(name) for name in _names(folder)):
        remedy = "Use --fresh to start again; the old run is then renamed"
        raise Mismatch(folder, "holds no intact checkpoint", remedy)
    return None


def verified(path: Path) -> Progress:
    """The progress of a checkpoint, after its files were compared with the manifest.

    Raises:
        Damaged: if a file differs, or the step is not that of the folder's name.
        Mismatch: if a file cannot be read.
    """
    return _verified(path, step_of(path))


def _verified(path: Path, step: int) -> Progress:
    with manifest.described(path, step) as (_, progress):
        return progress


def load(path: Path, wanted: Mapping[str, ArrayHeader] | None = None) -> Arrays:
    """The arrays of a checkpoint, verified. Another process may remove it meanwhile.

    Args:
        path: of the checkpoint.
        wanted: the headers that it must have exactly; None accepts all.

    Raises:
        Mismatch: if names, shapes or datatypes differ, or the files are damaged.
    """
    with manifest.described(path, step_of(path)) as (file, _):
        try:
            found = archive.headers(file)
            differing = None if wanted is None else archive.difference(found, wanted)
            if differing is None:
                file.seek(0)
                return archive.read_arrays(file)
        except Exception as error:  # zipfile and numpy raise many kinds of errors
            raise manifest.damaged(path, error) from error
    raise Mismatch(path, differing, _OTHER)


def weights(arrays: Arrays) -> Arrays:
    """The weights for inference, by `model/` and their path.

    They are the averaged weights if the training keeps an average. Weights that were stored in
    float16 become float32.
    """
    arrays = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in arrays.items()
    }
    averaged = {
        f"model/{name.removeprefix('average/')}": array
        for name, array in arrays.items()
        if name.startswith("average/")
    }
    return averaged or {n: array for n, array in arrays.items() if n.startswith("model/")}


def fingerprint(path: Path) -> str:
    """SHA-256 of all variables of a checkpoint in the order of names, including the optimizer."""
    return fingerprint_of(load(path))


def fingerprint_of(arrays: Arrays) -> str:
    """SHA-256 of all arrays in the order of names."""
    digest = hashlib.sha256()
    for _, array in sorted(arrays.items()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
