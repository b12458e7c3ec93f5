"""Memory: what is said where a device has too little of it, and which step would take less."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import OutOfMemory
from engine.recipe.recipe import Recipe
from volumes.storage.atomic import cannot_write


@contextmanager
def told(recipe: Recipe, folder: Path, replicas: int) -> Iterator[None]:
    """Tells in one line what TensorFlow tells in a page.

    Args:
        recipe: that is trained in the block.
        folder: of its run.
        replicas: that share a batch.

    Raises:
        OutOfMemory: where memory ends within the block.
        DiskFull: where it is the disk that is full.
    """
    import tensorflow as tf

    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        if full := disk_full(error):
            raise cannot_write(folder, full) from error
        cause = f"memory does not hold a step of {_sizes(recipe.batch, recipe.crop.shape)}"
        fewer = smaller(recipe, replicas)
        remedy = "Use a smaller network"
        if fewer is not None:
            batch, shape = fewer
            crop = ",".join(map(str, shape))
            remedy = f"Use batch={batch} crop.shape={crop}, which needs about half as much"
        raise OutOfMemory(folder, cause, remedy) from error


def disk_full(error: BaseException) -> OSError | None:
    """The system's error behind TensorFlow's, which has one for a full disk and a full memory."""
    for code in (errno.ENOSPC, errno.EDQUOT):
        if os.strerror(code) in str(error):
            return OSError(code, os.strerror(code))
    return None


def smaller(recipe: Recipe, replicas: int) -> tuple[int, tuple[int, ...]] | None:
    """A batch and a crop of half the voxels; None where nothing is left to halve.

    Nearly all of a step's memory is taken by what its layers give, voxel by voxel.
    """
    if recipe.batch % (2 * replicas) == 0:
        return recipe.batch // 2, recipe.crop.shape
    shape, stride = list(recipe.crop.shape), recipe.network.stride
    for axis in sorted(range(3), key=lambda axis: -shape[axis]):  # compact crops have least rim
        half = shape[axis] // 2 // stride[axis] * stride[axis]
        if half:
            shape[axis] = half
            return recipe.batch, tuple(shape)
    return None


def _sizes(batch: int, shape: tuple[int, ...]) -> str:
    crops = "1 crop" if batch == 1 else f"{batch} crops"
    return f"{crops} of {' x '.join(map(str, shape))}"
