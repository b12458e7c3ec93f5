"""Crops: position and orientation of an example in its volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volumes.boxes import Box, Voxel, copy_box, read_box, resampled
from volumes.volume import HU, Shape


@dataclass(frozen=True)
class Pose:
    """The orientation of an example: mirrored axes and quarter turns.

    Attributes:
        mirror: axes (Z, Y, X) that are reversed.
        quarters: quarter turns from Y towards X, after mirroring.
    """

    mirror: tuple[bool, bool, bool] = (False, False, False)
    quarters: int = 0

    def of(self, block: npt.NDArray[Voxel]) -> npt.NDArray[Voxel]:
        """A view of a (Z, Y, X) block in this pose."""
        reversed_ = block[tuple(slice(None, None, -1 if m else 1) for m in self.mirror)]
        return np.rot90(reversed_, self.quarters, axes=(1, 2))

    def apart(self) -> tuple[Pose, bool]:
        """A pose that does not mirror X, and whether X is mirrored after it."""
        z, y, x = self.mirror
        # To mirror X and then turn is to turn the other way and then mirror X.
        return (Pose((z, y, False), -self.quarters % 4), True) if x else (self, False)

    def written_to(self, out: npt.NDArray[Voxel]) -> npt.NDArray[Voxel]:
        """A view of an array. A block that is written to it stands in the array in this pose."""
        upright = np.rot90(out, -self.quarters, axes=(1, 2))
        return Pose(self.mirror).of(upright)


@dataclass(frozen=True)
class Cut:
    """The voxels of an example: a block of a volume in its pose, which nothing has read yet.

    Attributes:
        hu: (Z, Y, X) of the volume, in its datatype.
        box: the block. It may extend beyond the volume.
        pose: its orientation.
        plane: (Y, X) pixels to which the slices of the block are resampled.
    """

    hu: HU
    box: Box
    pose: Pose
    plane: tuple[int, int]

    @property
    def shape(self) -> Shape:
        """(Z, Y, X) of the voxels."""
        return (self.box.shape[0], *self.plane)

    def write(self, out: HU) -> None:
        """Writes the voxels into an array of their shape."""
        target = self.pose.written_to(out)
        if self.box.shape == self.shape:
            copy_box(self.hu, self.box, target)
        else:
            target[...] = resampled(read_box(self.hu, self.box), self.plane)

    def voxels(self) -> HU:
        """The voxels, in an array of their own."""
        out = np.empty(self.shape, self.hu.dtype)
        self.write(out)
        return out


@dataclass(frozen=True)
class Crop:
    """Random crops of a volume.

    Attributes:
        shape: (Z, Y, X) voxels.
        central: fraction of Y and of X, about the centre, from which crops are taken, as in the
            reference (0.8 in 3D, 0.7 in 2D): less air around the patient. Never less than the
            crop itself.
        flips: whether each axis is mirrored with probability one half.
        turns: whether slices are turned by 0, 1, 2 or 3 quarters, equally likely. With flips, all
            eight poses of a square are equally likely. Not meant for patients, who lie on their
            backs.
        scales: scale factors of slices before cropping: a crop at 0.7 covers 1 / 0.7 as many
            pixels along Y and X, resampled to `shape`. Drawn in proportion to the area, as if
            patches were cut from all sizes on one grid. Not meant for scans, whose voxels have a
            size in mm.
        patches: number of consecutive examples that are cut from the same slices. They share the
            noise of a simulated scan, which costs whole slices, however small the crop.

    Example:
        >>> crop = Crop(shape=(32, 256, 256), central=0.8)
        >>> box, _ = crop.draw((200, 512, 512), np.random.default_rng(0))
        >>> box.shape
        (32, 256, 256)
    """

    shape: Shape = (32, 256, 256)
    central: float = 0.8
    flips: bool = True
    turns: bool = False
    scales: tuple[float, ...] = (1.0,)
    patches: int = 1

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"crop.shape must be three positive numbers Z,Y,X, not {self.shape}")
        if not 0.0 < self.central <= 1.0:
            raise ValueError(f"crop.central must lie in (0, 1], not {self.central}")
        if self.turns and self.shape[1] != self.shape[2]:
            raise ValueError(f"crop.turns needs slices that are square, not {self.shape[1:]}")
        if not self.scales or not all(0.0 < scale <= 1.0 for scale in self.scales):
            raise ValueError(f"crop.scales must lie in (0, 1], not {self.scales}")
        if self.patches < 1:
            raise ValueError(f"crop.patches must be at least 1, not {self.patches}")

    def draw(self, volume: Shape, rng: np.random.Generator) -> tuple[Box, Pose]:
        """The random box and pose of an example in a volume of a given shape.

        Where the volume is smaller than the box, the box is centred on the volume and extends
        beyond it on both sides. Its shape is that of the crop at scale 1, else larger.
        """
        shape = self._seen(rng)
        start = []
        for axis, (size, length) in enumerate(zip(volume, shape, strict=True)):
            central = size if axis == 0 else max(round(size * self.central), min(length, size))
            first = (size - central) // 2
            room = central - length
            start.append(first + int(rng.integers(room + 1)) if room >= 0 else (size - length) // 2)
        mirror = rng.random(3) < 0.5 if self.flips else np.zeros(3, bool)
        # Drawn only if requested, so that crops without turns stay the same for a seed.
        quarters = int(rng.integers(4)) if self.turns else 0
        z, y, x = start
        pose = Pose((bool(mirror[0]), bool(mirror[1]), bool(mirror[2])), quarters)
        return Box((z, y, x), shape), pose

    def _seen(self, rng: np.random.Generator) -> Shape:
        """The shape of a box, before it is resampled to that of the crop."""
        # As for turns: nothing is drawn if there is no choice.
        if self.scales == (1.0,):
            return self.shape
        area = np.square(self.scales)
        scale = float(rng.choice(self.scales, p=area / area.sum()))
        depth, *plane = self.shape
        y, x = (round(length / scale) for length in plane)
        return depth, y, x
