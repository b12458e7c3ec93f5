"""Drawing: shapes in a body, in the coordinates of a reference anatomy.

A shape is a depth below its surface, in mm. Voxels with positive depth are filled; voxels at the
surface are a mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]  # float32 for arrays of the volume's size
Points = npt.NDArray[np.float64]  # (..., 3): z, y, x in mm of the reference patient

REACH_OF_WARP_MM = 12.0


@dataclass(frozen=True)
class Body:
    """A block of a patient: voxels and their coordinates in the reference patient.

    Attributes:
        hu: (Z, Y, X) voxels.
        z, y, x: coordinates in the reference patient in mm, after the warp.
        axes: coordinates along Z, Y and X in mm, before the warp.
        room_mm: depth below the surface that confines the next shapes; negative outside.
        texture: (Z, Y, X) parenchymal texture in HU.
        edge_mm: width of the transition at a surface.
    """

    hu: Array
    z: Array
    y: Array
    x: Array
    axes: tuple[Array, Array, Array]
    room_mm: Array
    texture: Array
    edge_mm: float

    def around(self, lowest: Points, highest: Points) -> Body:
        """A view of the part that contains a box of the reference patient."""
        margin = (0.0, REACH_OF_WARP_MM, REACH_OF_WARP_MM)
        box = tuple(
            slice(*np.searchsorted(axis, (low - m - 2 * self.edge_mm, high + m + 2 * self.edge_mm)))
            for axis, low, high, m in zip(self.axes, lowest, highest, margin, strict=True)
        )
        z, y, x = (axis[part] for axis, part in zip(self.axes, box, strict=True))
        full = (self.hu, self.y, self.x, self.room_mm, self.texture)
        hu, wy, wx, room, texture = (array[box] for array in full)
        return Body(hu, self.z[box[0]], wy, wx, (z, y, x), room, texture, self.edge_mm)

    @property
    def upright(self) -> Array:
        """The y before the warp: fluid levels are horizontal in every patient."""
        return self.axes[1][:, None]

    def paint(self, hu: float | Array, depth_mm: Array) -> None:
        """Fills voxels of positive depth. Voxels at the surface are a mixture, as in a scanner."""
        cover = depth_mm / self.edge_mm
        cover += 0.5
        np.clip(cover, 0, 1, out=cover)
        self.hu[...] += cover * (hu - self.hu)

    def ellipsoid(self, centre: Points, radii: Points, lean: float = 0.0) -> Array:
        """Depth in mm below the surface of an ellipsoid. `lean` is the shift of x per mm of z."""
        (cz, cy, cx), (rz, ry, rx) = centre.tolist(), radii.tolist()
        dz = self.z - cz
        q = (dz / rz) ** 2 + ((self.y - cy) / ry) ** 2 + ((self.x - cx - lean * dz) / rx) ** 2
        return np.asarray((1 - np.sqrt(q)) * min(rz, ry, rx), np.float32)

    def capsule(self, start: Points, end: Points, radii: tuple[float, float]) -> Array:
        """Depth in mm below the surface of a tube with round ends and two radii."""
        (az, ay, ax), (vz, vy, vx) = start.tolist(), (end - start).tolist()
        dz, dy, dx = self.z - az, self.y - ay, self.x - ax
        along = np.clip((dz * vz + dy * vy + dx * vx) / (vz**2 + vy**2 + vx**2 + 1e-6), 0, 1)
        away = (dz - along * vz) ** 2 + (dy - along * vy) ** 2 + (dx - along * vx) ** 2
        return np.asarray(radii[0] + along * (radii[1] - radii[0]) - np.sqrt(away), np.float32)


def smooth_noise(rng: np.random.Generator, axes: tuple[Array, ...], length_mm: float) -> Array:
    """Gaussian-filtered white noise with standard deviation 1.

    The filter is separable, so it is applied as one matrix per axis.
    """
    weights = []
    for axis in axes:
        # With a spacing of 1.5 standard deviations, the grid of nodes is not visible.
        nodes = np.arange(axis[0] - 3 * length_mm, axis[-1] + 4 * length_mm, 1.5 * length_mm)
        w = np.exp(-0.5 * ((axis[:, None] - nodes) / length_mm) ** 2)
        weights.append((w / np.sqrt((w**2).sum(axis=1, keepdims=True))).astype(np.float32))
    z, y, x = weights
    white = rng.standard_normal((z.shape[1], y.shape[1], x.shape[1]), np.float32)
    slabs = np.tensordot(z, white, axes=1)
    return np.asarray((y @ slabs) @ x.T, np.float32)


def tube(
    body: Body,
    points: Points,
    radii_mm: Sequence[float],
    hu: float,
    *,
    confined: bool = False,
    level_mm: float | None = None,
) -> None:
    """Draws a tube along a line of points, up to a fluid level if one is given.

    The radii are interpolated from end to end.
    """
    ends = np.linspace(0, 1, len(radii_mm))
    radii = np.interp(np.linspace(0, 1, len(points)), ends, radii_mm).tolist()
    for a, b, ra, rb in zip(points, points[1:], radii, radii[1:], strict=False):
        reach = max(ra, rb)
        part = body.around(np.minimum(a, b) - reach, np.maximum(a, b) + reach)
        if not part.hu.size:
            continue
        depth = part.capsule(a, b, (ra, rb))
        if confined:
            depth = np.minimum(depth, part.room_mm)
        if level_mm is not None:
            depth = np.minimum(depth, level_mm - part.upright)
        part.paint(hu, depth)


def lump(
    body: Body, centre: Points, radii: Points, hu: float, *, level_mm: float | None = None
) -> None:
    """Draws an ellipsoid inside the confining surface, up to a fluid level if one is given."""
    part = body.around(centre - radii, centre + radii)
    depth = np.minimum(part.ellipsoid(centre, radii), part.room_mm)
    part.paint(hu, depth if level_mm is None else np.minimum(depth, level_mm - part.upright))


def tree(
    body: Body, rng: np.random.Generator, root: Points, way: Points, radius_mm: float, hu: float
) -> None:
    """Draws a vessel that branches until its radius is below 1.2 mm."""
    tip = root + way + rng.normal(0, 0.12 * np.linalg.norm(way), 3)
    tube(body, np.array([root, tip]), (radius_mm, 0.85 * radius_mm), hu, confined=True)
    if radius_mm > 1.2:
        for _ in range(2):
            turn = way + rng.normal(0, 0.55, 3) * np.linalg.norm(way)
            turn *= 0.85 * np.linalg.norm(way) / np.linalg.norm(turn)
            tree(body, rng, tip, turn, radius_mm * rng.uniform(0.62, 0.8), hu)
