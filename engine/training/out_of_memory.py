"""Out of memory: an error in one line, with a step that needs less memory."""

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
    """Replaces TensorFlow's long error by one line.

    Args:
        recipe: what is trained in the block.
        folder: of its run.
        replicas: number of replicas that share a batch.

    Raises:
        OutOfMemory: if memory runs out within the block.
        DiskFull: if the disk is full instead.
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
            fields = f"batch={batch} accumulate={2 * recipe.accumulate}"  # as many examples
            if batch == recipe.batch:
                fields = f"crop.shape={','.join(map(str, shape))}"
            remedy = f"Use {fields}, which needs about half as much"
        raise OutOfMemory(folder, cause, remedy) from error


def disk_full(error: BaseException) -> OSError | None:
    """The system's error if the disk is full. TensorFlow has one error for disk and memory."""
    for code in (errno.ENOSPC, errno.EDQUOT):
        if os.strerror(code) in str(error):
            return OSError(code, os.strerror(code))
    return None


def smaller(recipe: Recipe, replicas: int) -> tuple[int, tuple[int, ...]] | None:
    """A batch and a crop shape with half the voxels; None if neither can be halved.

    Nearly all memory of a step holds the outputs of the layers, which grow with the voxels.
    """
    if recipe.batch % (2 * replicas) == 0:
        return recipe.batch // 2, recipe.crop.shape
    shape, stride = list(recipe.crop.shape), recipe.network.stride
    for axis in sorted(range(3), key=lambda axis: -shape[axis]):  # compact crops are best
        half = shape[axis] // 2 // stride[axis] * stride[axis]
        if half:
            shape[axis] = half
            return recipe.batch, tuple(shape)
    return None


def _sizes(batch: int, shape: tuple[int, ...]) -> str:
    crops = "1 crop" if batch == 1 else f"{batch} crops"
    return f"{crops} of {' x '.join(map(str, shape))}"
