"""The device cache: the volumes in the memory of each device, where crops are cut."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import runtime
from engine.errors import BadUsage
from engine.recipe.recipe import Recipe
from volumes.boxes import reflected
from volumes.sampling.crops import Cut
from volumes.sampling.examples import Examples
from volumes.storage import memory
from volumes.volume import HU

CACHES = ("disk", "device")
_MEMORY_SHARE = 0.5  # the rest is for the step

Indices = npt.NDArray[np.int64]


def check(cache: str, recipe: Recipe) -> None:
    """Refuses a cache that there is not, or that cannot serve a recipe.

    Raises:
        BadUsage: with the cause.
    """
    if cache not in CACHES:
        remedy = f"Use one of {', '.join(CACHES)}"
        raise BadUsage("--cache", f"does not accept {cache!r}", remedy)
    if cache == "device" and (recipe.noise.scanned or recipe.crop.scales != (1.0,)):
        what = "simulates a scanner" if recipe.noise.scanned else "resamples crops"
        raise BadUsage("--cache device", f"has no use: the recipe {what}", "Leave it out")


def too_large(examples: Examples) -> str:
    """Why the volumes do not fit into the memory of a device; empty if they fit."""
    needed = sum(array.size for array in _arrays(examples)) * examples.dtype.itemsize
    most = int(_MEMORY_SHARE * (runtime.gpu_bytes() or memory.free_bytes()))
    if needed <= most:
        return ""
    return f"its {needed / 2**30:.2f} GiB are more than half of the memory, {most / 2**30:.2f} GiB"


class DeviceCache:
    """The arrays of all volumes on each device. TensorFlow must have been started.

    Crops have the bits of those that the host cuts.

    Args:
        examples: of the training.
        devices: name of the device of each replica.
    """

    def __init__(self, examples: Examples, devices: Sequence[str]) -> None:
        self._devices, self._dtype = devices, examples.dtype
        self._arrays = _arrays(examples)  # kept, so that their identities stay theirs
        self._tensors = [
            {id(array): self._on(device, array) for array in self._arrays} for device in devices
        ]

    def voxels(self, cuts: Sequence[Cut], replica: int) -> Any:
        """(B, Z, Y, X) tensor of the voxels of cuts, on the device of a replica."""
        import tensorflow as tf

        held = self._tensors[replica]
        with tf.device(self._devices[replica]):
            blocks = [self._block(held[id(cut.hu)], *_indices(cut)) for cut in cuts]
            return tf.bitcast(tf.stack(blocks), self._dtype)

    def _on(self, device: str, array: HU) -> Any:
        """An array on a device. GPUs gather float16, not int16: their bits are only moved."""
        import tensorflow as tf

        with tf.device(device):
            tensor = tf.constant(np.asarray(array, self._dtype))
            return tf.bitcast(tensor, tf.float16) if self._dtype == np.int16 else tensor

    @cached_property
    def _block(self) -> Any:
        import tensorflow as tf

        def block(volume: Any, z: Any, y: Any, x: Any, turned: bool) -> Any:
            found = tf.gather(tf.gather(tf.gather(volume, z), y, axis=1), x, axis=2)
            return tf.transpose(found, (0, 2, 1)) if turned else found

        return tf.function(block, reduce_retracing=True)


def _arrays(examples: Examples) -> list[HU]:
    """The clean and the recorded arrays of the volumes."""
    found = [volume.hu for volume in examples.volumes]
    return found + [v.noisy_hu for v in examples.volumes if v.noisy_hu is not None]


def _indices(cut: Cut) -> tuple[Indices, Indices, Indices, bool]:
    """The indices of a cut along Z, Y and X in its pose, and whether Y and X then change places."""
    axes = zip(cut.box.start, cut.box.shape, cut.hu.shape, strict=True)
    z, y, x = (
        reflected(*axis)[:: -1 if mirrored else 1]
        for axis, mirrored in zip(axes, cut.pose.mirror, strict=True)
    )
    # A quarter turn from Y towards X reverses X, then exchanges the axes; three reverse Y.
    x = x[::-1] if cut.pose.quarters in (1, 2) else x
    y = y[::-1] if cut.pose.quarters in (2, 3) else y
    return z, y, x, cut.pose.quarters % 2 == 1
