"""Abdomen phantom: synthetic abdominal CT volumes without noise.

The anatomy is drawn in the coordinates of one reference patient, in mm: z downwards from the dome
of the diaphragm, y backwards, x to the patient's left. Every other patient is a smooth warp of
these coordinates. Organs therefore keep their neighbours and are continuous from slice to slice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volumes.phantoms.drawing import REACH_OF_WARP_MM, Body, Points, lump, smooth_noise, tree, tube

_FIELD_MM = 380.0
_HALF_WIDTH_MM, _HALF_DEPTH_MM = 155.0, 108.0
_ROUND = 2.4  # exponent of the superellipse of the trunk; an ellipse has 2
_FAT_MM, _WALL_MM = 19.0, 13.0
_SPINE_Y_MM = 36.0


def abdomen(
    shape: tuple[int, int, int] = (48, 256, 256),
    *,
    rng: np.random.Generator,
    spacing_mm: tuple[float, float, float] | None = None,
) -> tuple[npt.NDArray[np.int16], tuple[float, float, float]]:
    """A contrast-enhanced upper abdomen of a random patient, without noise.

    Args:
        shape: (Z, Y, X) voxels, each at least 1.
        rng: the only source of randomness.
        spacing_mm: (Z, Y, X); by default 3 mm slices and a field of view of 380 mm in plane.

    Returns:
        int16 HU with axes Z superior to inferior, Y anterior to posterior, X right to left; and the
        spacing (Z, Y, X) in mm.

    Example:
        >>> from volumes import random_draws
        >>> hu, spacing_mm = abdomen((2, 64, 64), rng=random_draws.rng(0, "phantom", 0))
        >>> hu.shape, hu.dtype, spacing_mm
        ((2, 64, 64), dtype('int16'), (3.0, 5.9375, 5.9375))
    """
    spacing = spacing_mm or (3.0, _FIELD_MM / shape[1], _FIELD_MM / shape[2])
    body = _torso(shape, spacing, rng)
    for draw in _ANATOMY:
        draw(body, rng)
    # Gas and lung have no parenchyma. They keep some texture: constant air would look like padding.
    hu = body.hu + body.texture * np.clip((body.hu + 400) / 300, 0.3, 1)
    point_spread = [0.0, *(max(0.6 / s, 0.5) for s in spacing[1:])]
    hu = ndimage.gaussian_filter(hu, point_spread, mode="nearest")
    return np.rint(np.clip(hu, -1024, 1500)).astype(np.int16), spacing


def _torso(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], rng: np.random.Generator
) -> Body:
    """Air, table, skin, fat and the muscular wall, filled with visceral fat."""
    middle = (float(rng.uniform(95, 120)), float(rng.uniform(-6, 6)), float(rng.uniform(-6, 6)))
    girth = rng.uniform(0.94, 1.12)
    size = (rng.uniform(0.95, 1.05), girth * rng.uniform(0.94, 1.03), girth)
    z, y, x = (
        ((np.arange(n) - (n - 1) / 2) * s / k + m).astype(np.float32)
        for n, s, k, m in zip(shape, spacing, size, middle, strict=True)
    )
    # Bone does not bend: the warp is zero at the spine.
    off = ((y[:, None] - _SPINE_Y_MM - 15) ** 2 + x**2) / np.float32(2 * 45**2)
    give = 4 * (1 - np.exp(-off))
    limit = REACH_OF_WARP_MM
    wy = y[:, None] + np.clip(give * smooth_noise(rng, (z, y, x), 28), -limit, limit)
    wx = x + np.clip(give * smooth_noise(rng, (z, y, x), 28), -limit, limit)
    scales = ((2, 1.5), (5, 2.0), (14, 2.5))  # mm, HU
    texture = sum(std * smooth_noise(rng, (z, y, x), length) for length, std in scales)

    power = np.abs(wx / _HALF_WIDTH_MM) ** _ROUND + np.abs(wy / _HALF_DEPTH_MM) ** _ROUND
    depth = (1 - power ** (1 / _ROUND)) * (_HALF_WIDTH_MM * _HALF_DEPTH_MM) ** 0.5
    fat, wall = _FAT_MM + rng.uniform(-5, 3), _WALL_MM + rng.uniform(-2, 2)
    room = (depth - (fat + wall)).astype(np.float32)
    air = np.full(shape, -1000, np.float32)
    edge = (spacing[1] * spacing[2]) ** 0.5
    body = Body(air, z[:, None, None], wy, wx, (z, y, x), room, np.asarray(texture), edge)

    top = _HALF_DEPTH_MM + 8 - x**2 / 900
    table = np.minimum(y[:, None] - top, top + 24 + x**2 / 1800 - y[:, None])
    body.paint(rng.uniform(-600, -300), table)
    body.paint(rng.uniform(-985, -950), table - 2.5)
    body.paint(40.0, depth)
    body.paint(rng.uniform(-110, -95), depth - 2)
    body.paint(rng.uniform(48, 62), room + wall)
    # The flank has three flat muscles. The recti are separated at the midline.
    flank = np.minimum(np.abs(wx) - 62, 25 - wy)
    for share in (0.36, 0.68):
        body.paint(-30.0, np.minimum(flank, 0.3 - np.abs(room + wall * share)))
    body.paint(-80.0, np.minimum(np.minimum(room + wall, -wy), 2.5 - np.abs(np.abs(wx) - 62)))
    body.paint(-30.0, np.minimum(np.minimum(room + wall, -wy), 2 - np.abs(wx)))
    body.paint(rng.uniform(-112, -98), room)
    return body


def _ribs(body: Body, rng: np.random.Generator) -> None:
    within = 1 - (_FAT_MM + 0.6 * _WALL_MM) / (_HALF_WIDTH_MM * _HALF_DEPTH_MM) ** 0.5
    cortex, first = rng.uniform(650, 950), rng.uniform(70, 84)
    for side in (-1, 1):
        for k in range(9):
            turn = np.linspace(0.4, (1.1, 1.6, 2.3)[min(k, 2)] + rng.uniform(-0.1, 0.1), 16)
            z = first - 29 * k + 45 * (turn - 0.4) + rng.normal(0, 2)
            back, out = np.cos(turn), np.sin(turn)
            y = _HALF_DEPTH_MM * within * np.sign(back) * np.abs(back) ** (2 / _ROUND)
            x = side * _HALF_WIDTH_MM * within * out ** (2 / _ROUND)
            line = np.stack([z, y, x], axis=1)
            tube(body, line, (5.5, 4.5), cortex)
            tube(body, line, (3.6, 2.6), 200.0)


def _mesentery(body: Body, rng: np.random.Generator) -> None:
    for _ in range(14):
        root = rng.normal((135, -12, 5), (22, 8, 12))
        tree(body, rng, root, rng.normal((12, -18, 0), (14, 10, 26)), 2.4, rng.uniform(110, 170))


def _gut(
    body: Body, rng: np.random.Generator, line: Points, radius_mm: float, gas_share: float
) -> None:
    """A loop of bowel: wall, content, and gas in its most anterior part."""
    outer = radius_mm * rng.uniform(0.8, 1.2, len(line))
    inner = (outer - rng.uniform(2, 3)).tolist()
    content = rng.uniform(200, 380) if rng.random() < 0.2 else rng.uniform(5, 40)
    tube(body, line, outer.tolist(), rng.uniform(55, 85), confined=True)
    tube(body, line, inner, content, confined=True)
    if rng.random() < gas_share:
        level = float(line[:, 1].min() + rng.uniform(-0.5, 0.6) * radius_mm)
        tube(body, line, inner, rng.uniform(-950, -800), confined=True, level_mm=level)


def _bowel(body: Body, rng: np.random.Generator) -> None:
    for _ in range(34):
        start = rng.uniform((122, -62, -78), (270, 2, 88))
        steps = ndimage.gaussian_filter1d(rng.normal(0, 1, (8, 3)), 1.2, axis=0)
        steps *= 11 / np.linalg.norm(steps, axis=1, keepdims=True)
        _gut(body, rng, start + np.cumsum(steps, axis=0), rng.uniform(9, 13), 0.3)
    down = np.linspace(0, 1, 14)[:, None]
    for top, bottom in (((125, 5, -102), (290, 20, -105)), ((85, 12, 112), (290, 28, 108))):
        wander = rng.normal(0, 2.5, (14, 3))
        _gut(body, rng, np.array(top) + down * np.subtract(bottom, top) + wander, 18, 0.8)
    across = np.linspace(-95, 100, 16)
    sag = 118 + rng.uniform(15, 45) * (1 - (across / 100) ** 2) + rng.normal(0, 3, 16)
    front = -62 + 22 * (across / 100) ** 2 + rng.normal(0, 2, 16)
    _gut(body, rng, np.stack([sag, front, across], axis=1), rng.uniform(14, 19), 1.0)


def _stomach(body: Body, rng: np.random.Generator) -> None:
    centre, radii = rng.normal((62, -34, 62), 5), rng.uniform((48, 32, 32), (60, 40, 42))
    content = rng.uniform(220, 330) if rng.random() < 0.3 else rng.uniform(5, 40)
    pylorus = np.array([[85, -45, 45], [112, -42, 18], [118, -30, -12], [122, -10, -28]])
    lump(body, centre, radii, rng.uniform(70, 95))
    tube(body, pylorus, (20, 12), rng.uniform(70, 95), confined=True)
    tube(body, pylorus, (15, 7), content, confined=True)
    lump(body, centre, radii - 4.5, content)
    level = float(centre[1] - radii[1] * rng.uniform(0.1, 0.6))
    lump(body, centre, radii - 4.5, rng.uniform(-980, -930), level_mm=level)


def _spleen_and_pancreas(body: Body, rng: np.random.Generator) -> None:
    centre, radii = rng.normal((68, 30, 100), 4), rng.uniform((42, 42, 26), (58, 52, 34))
    part = body.around(centre - radii, centre + radii)
    hollow = part.ellipsoid(np.add(centre, (10, -6, -34)), radii)
    crescent = np.minimum(part.ellipsoid(centre, radii), part.room_mm - 1)
    part.paint(rng.uniform(115, 132), np.minimum(crescent, -hollow - 2))
    tail = np.array([[88, 14, 82], [92, 0, 55], [100, -12, 25], [108, -14, -5], [122, -8, -22]])
    line = tail + rng.normal(0, 3, 3)
    tube(body, line, (8, 12), rng.uniform(88, 112))
    tube(body, np.add(line, (0, 9, 0)), (3, 5), rng.uniform(150, 185))


def _liver(body: Body, rng: np.random.Generator) -> None:
    right, left = rng.normal((78, -2, -74), 4), rng.normal((52, -56, -4), 4)
    part = body.around(np.array([-40, -110, -165]), np.array([190, 100, 110]))
    lobes = np.maximum(
        part.ellipsoid(right, rng.uniform((80, 78, 68), (100, 88, 80)), lean=-0.15),
        part.ellipsoid(left, rng.uniform((42, 28, 60), (56, 36, 84))),
    )
    inside = np.minimum(lobes, part.room_mm - 1)
    part.paint(rng.uniform(100, 118), inside)
    liver = replace(part, room_mm=inside - 2)
    vein = rng.uniform(155, 195)
    for way in ((4, 8, -30), (4, -26, -20), (4, -30, 8)):
        tree(liver, rng, np.array([34.0, 4, -28]), rng.normal(way, 4), 5, vein)
    for way in ((-6, 0, -28), (16, 8, -26), (6, -14, -24), (-12, -26, 14)):
        tree(liver, rng, np.array([84.0, -12, -38]), rng.normal(way, 4), 5.5, vein + 5)
    for _ in range(rng.poisson(1)):
        size = rng.uniform(4, 13, 3)
        lump(liver, right + rng.normal(0, 32, 3), size, rng.choice([5.0, 60.0, 75.0]))
    lump(body, np.array([75, -62, -20.0]), rng.uniform((30, 14, 1.5), (40, 26, 3)), -85)
    tube(body, np.array([[84, -10, -40], [108, -12, -14.0]]), (7, 6), vein)
    gallbladder = rng.normal((118, -46, -52), 4)
    radii = rng.uniform((20, 11, 11), (32, 17, 17))
    lump(body, gallbladder, radii + 1.5, 70)
    lump(body, gallbladder, radii, rng.uniform(5, 15))


def _kidney(body: Body, rng: np.random.Generator, side: int) -> None:
    centre = rng.normal((132 if side < 0 else 122, 42, 72 * side), 4)
    radii, lean = rng.uniform((48, 24, 22), (58, 29, 27)), 0.18 * side
    part = body.around(centre - radii - 20, centre + radii + 20)
    if not part.hu.size:
        return
    kidney = part.ellipsoid(centre, radii, lean)
    part.paint(-104.0, np.minimum(kidney + 7, part.room_mm))
    part.paint(rng.uniform(165, 200), kidney)
    cz, cy, cx = centre.tolist()
    turn = np.arctan2(part.y - cy, part.x - cx)
    pyramids = 5 * (np.cos(5 * turn) + np.cos((part.z - cz) / 4) + 0.3)
    part.paint(rng.uniform(115, 140), np.minimum(pyramids, kidney - 6))
    hilum = centre - (0, 4, 13 * side)
    part.paint(-90.0, part.ellipsoid(hilum, np.array([28, 8, 14]), lean))
    pelvis = rng.uniform(300, 420) if rng.random() < 0.25 else rng.uniform(5, 15)
    part.paint(pelvis, part.ellipsoid(hilum, np.array([17, 4.5, 9]), lean))
    for chance, lowest, highest in ((0.25, 30, 90), (0.4, 0, 15)):
        if rng.random() < chance:
            spot = centre + radii * rng.normal(0, 0.5, 3) + (0, 8, 14 * side)
            part.paint(rng.uniform(lowest, highest), part.ellipsoid(spot, rng.uniform(6, 18, 3)))
    for height, x, hu in ((-3, 10, 230), (5, -22, 155)):
        ends = [np.add(hilum, (height, -4, 0)), (cz - 8, 6 + height, x)]
        tube(body, np.array(ends), (3, 3.5), hu)


def _kidneys(body: Body, rng: np.random.Generator) -> None:
    for side in (-1, 1):
        _kidney(body, rng, side)


def _chest(body: Body, rng: np.random.Generator) -> None:
    """The lung bases above the two domes of the diaphragm, and the heart."""
    part = body.around(np.array([-1e4, -120, -160]), np.array([115, 120, 160]))
    if not part.hu.size:
        return
    sides = [(part.x - x) ** 2 / 82**2 + (part.y + 32) ** 2 / 98**2 for x in (-70, 70)]
    dome = rng.uniform(8, 22) + np.minimum(sides[0], sides[1] + 0.1) * rng.uniform(55, 75)
    lung = np.minimum((dome - part.z) * 0.6, part.room_mm + 2)
    column = 32 - np.hypot(part.x, np.maximum(part.y - _SPINE_Y_MM + 8, 0))
    mediastinum = (1 - np.hypot((part.x - 8) / 66, (part.y + 55) / 62)) * 62
    lung = np.minimum(lung, -np.maximum(column, mediastinum))
    part.paint(-860 + 9 * part.texture, lung)
    lungs = replace(part, room_mm=lung - 2)
    for side in (-1, 1):
        for _ in range(5):
            root = rng.normal((-30, 30, 40 * side), 12)
            tree(lungs, rng, root, rng.normal((30, 14, 14 * side), 9), 2.6, 40)
    heart = rng.normal((-42, -35, 18), 4)
    lump(body, heart, np.array([58.0, 52, 66]), -90)
    lump(body, heart, np.array([52.0, 46, 60]), rng.uniform(105, 130))
    lump(body, np.add(heart, (-6, 4, 8)), np.array([36.0, 28, 34]), rng.uniform(170, 240))


def _back_muscles(body: Body, rng: np.random.Generator) -> None:
    muscle = rng.uniform(50, 65)
    for side in (-1, 1):
        middle, reach = np.array([0, 70, 35 * side]), np.array([1e4, 40, 40])
        back = body.around(middle - reach, middle + reach)
        erector = back.ellipsoid(np.array([110, 70, 33.0 * side]), np.array([900, 22, 31.0]))
        back.paint(muscle + 1.5 * back.texture, erector)
        psoas = np.array([[100, 42, 27], [150, 44, 38], [200, 40, 46], [300, 25, 58.0]])
        tube(body, psoas * (1, 1, side), (6, 30), muscle)
        flank = np.array([[105, 68, 62], [300, 62, 78.0]])
        tube(body, flank * (1, 1, side), (9, 14), muscle)
        crus = np.array([[20, 10, 18], [80, 12, 17], [150, 18, 14.0]])
        tube(body, crus * (1, 1, side), (5, 3.5), muscle)


def _great_vessels(body: Body, rng: np.random.Generator) -> None:
    z = np.arange(-400.0, 420, 20)
    arterial, venous = rng.uniform(180, 320), rng.uniform(120, 180)
    x, y = 8 + 3 * np.sin(z / 60 + rng.uniform(0, 6)), 5 + 2 * np.sin(z / 50 + rng.uniform(0, 6))
    aorta = np.stack([z, y, x], axis=1)
    wide = rng.uniform(9.5, 12.5)
    tube(body, aorta, (wide + 1.5, wide), 60)
    tube(body, aorta, (wide, wide - 1.5), arterial)
    cava = np.stack([z, 2 - (z < 60) * 3.0, -24 + 0 * z], axis=1)
    tube(body, cava, (12, rng.uniform(9, 12)), venous)
    mesenteric = np.array([[112, -6, 8], [300, -22, 6.0]])
    tube(body, mesenteric, (4, 3), arterial)
    tube(body, np.add(mesenteric, (0, -7, -18)), (5, 4), venous)
    for _ in range(rng.poisson(3)):
        turn, k = rng.uniform(0, 2 * np.pi), rng.integers(len(z) // 2, len(z) - 6)
        plaque = aorta[k] + (rng.uniform(-9, 9), wide * np.sin(turn), wide * np.cos(turn))
        ends = np.array([plaque, np.add(plaque, (4, 0, 0))])
        tube(body, ends, (1.6, 1.2), rng.uniform(600, 900))


def _spine(body: Body, rng: np.random.Generator) -> None:
    """Alternating vertebrae and discs, the arch behind them, and the spinal canal."""
    part = body.around(np.array([-1e4, 5, -48]), np.array([1e4, 105, 48]))
    height = rng.uniform(33, 37)
    along = np.mod(part.z + rng.uniform(0, height), height) - height / 2
    cortex, marrow = rng.uniform(550, 850), rng.uniform(150, 230)
    wide, deep = rng.uniform(20, 24), rng.uniform(15, 17.5)
    y, x = part.y - _SPINE_Y_MM, np.abs(part.x)
    column = (1 - np.hypot(x / wide, y / deep)) * deep
    vertebra = np.minimum(column - 1.5 + np.abs(along) / 8, height * 0.39 - np.abs(along))
    ring = (1 - np.hypot(x / 19, (y - deep - 8) / 15)) * 15
    arch = np.minimum(ring, 12 - np.abs(along + 1))
    wing = 4.5 - np.hypot(along + 4, y - deep - 5 - 0.15 * x)
    wing = np.minimum(wing, 42 - x)
    spinous = np.minimum(4 - x, np.minimum(9 - np.abs(along - 3), 26 - np.abs(y - deep - 18)))
    facet = 7 - np.hypot(x - 17, y - deep - 14)
    behind = np.maximum(np.maximum(arch, spinous), np.maximum(wing, facet))
    part.paint(rng.uniform(75, 100), column)
    part.paint(cortex, np.minimum(behind, y - deep + 6))
    part.paint(marrow + 80, np.minimum(behind, y - deep + 6) - 2.2)
    part.paint(cortex, vertebra)
    part.paint(marrow + 7 * part.texture, vertebra - 1.8)
    canal = (1 - np.hypot(x / 12, (y - deep - 8) / 9)) * 9
    part.paint(-60.0, canal)
    part.paint(rng.uniform(22, 38), canal - 1.5)


_ANATOMY: tuple[Callable[[Body, np.random.Generator], None], ...] = (
    _ribs,
    _mesentery,
    _bowel,
    _spleen_and_pancreas,
    _stomach,
    _liver,
    _kidneys,
    _chest,
    _back_muscles,
    _great_vessels,
    _spine,
)
