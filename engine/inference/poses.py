"""Poses: an estimate is averaged over the turned and mirrored copies of the image.

The errors of a network in different poses are partly independent, so the mean has smaller ones. The
averaging is that of Timofte et al., "Seven ways to improve example-based single image super
resolution", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from volumes.sampling.crops import Crop, Pose
from volumes.volume import Unit


def poses_of(crop: Crop) -> tuple[Pose, ...]:
    """The poses of slices that a network saw in training, upright first.

    There are eight with flips and turns, four with one of the two, and one without.

    Args:
        crop: of the network's recipe.

    Example:
        >>> len(poses_of(Crop(flips=True, turns=False)))
        4
    """
    return tuple(_each(crop))


def _each(crop: Crop) -> Iterator[Pose]:
    sides = (False, True) if crop.flips else (False,)
    if not crop.turns:
        yield from (Pose((False, y, x)) for y in sides for x in sides)
        return
    yield from (Pose((False, False, x), quarters) for x in sides for quarters in range(4))


def averaged(
    poses: Sequence[Pose], infer: Callable[[list[Unit]], Unit], images: Sequence[Unit]
) -> Unit:
    """The mean of the estimates of an image in several poses.

    Args:
        poses: of the slices; one at least.
        infer: gives the estimate of (Z, Y, X) images in window units.
        images: (Z, Y, X), the noisy one first.

    Returns:
        (Z, Y, X) in window units.

    Example:
        >>> image = np.arange(4.0, dtype=np.float32).reshape(1, 2, 2)
        >>> first_row = lambda images: images[0] * np.float32([[1], [0]])
        >>> averaged(poses_of(Crop(turns=True)), first_row, [image]).tolist()
        [[[0.0, 0.5], [1.0, 1.5]]]
    """
    estimates = (pose.written_to(infer([pose.of(image) for image in images])) for pose in poses)
    first = next(estimates)
    if len(poses) == 1:
        return first
    total = np.array(first)
    for estimate in estimates:  # one at a time is in memory
        total += estimate
    return total / np.float32(len(poses))
