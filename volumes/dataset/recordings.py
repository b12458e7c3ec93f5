"""Recordings: whether a noisy image shows what its clean image shows, in the same unit.

A recording that lacks its intercept, has another unit or lies the other way round is scored without
an error, and a network learns the mistake. The comparison works on means over blocks of a slice
inside the body, which hardly hold noise:

- Correlation of the means. Four recorded quarter doses have at least 0.998; recordings of another
  patient have at most 0.43, those turned or mirrored at most 0.47.
- The line noisy = slope * clean + offset. The recorded doses have slopes of 0.994 to 1.000 and
  offsets below 0.2 HU.
- The slope within soft tissue, away from air and bone. Outlines of two patients may coincide, so
  that all blocks together correlate; their organs do not. Recordings of the same voxels have slopes
  of 0.98 to 1.03, with noise of 300 HU and with 60 views, too; 9 of 10 phantoms of the same outline
  have 0.5 to 0.8.
- Noise: the median of diagonal differences of neighbouring pixels. A quarter of the dose has twice
  the noise of the full dose.

Lengths are in voxels. Values are HU, or grey values as they are stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volumes.errors import BadInput

Image = npt.NDArray[Any]
Means = npt.NDArray[np.float32]

HU_WIDTH = 1400.0  # of the default window
_FEWEST_BLOCKS = 64
_BODY_HU = (-500.0, 1000.0)
_UNLIKE = 0.6
_BETTER = 0.8
_SOFT_HU = (-200.0, 300.0)
_SOFT_SLOPE, _CERTAIN = 0.12, 3.0  # deviation from 1; in standard errors
_SLOPE = 0.1
_OTHER_UNIT = 4.0
_OFFSET = 0.015  # of the width: 21 HU
_NO_NOISE = 0.0005  # of the width: 0.7 HU
_SWAPPED, _VISIBLE_NOISE = 1.1, 0.002  # clean over noisy; of the width
_MOST_SLICES = 16
_FARTHEST = 16  # a larger shift in a slice is reported as another patient
_INTERCEPTS = (1000, 1024, 8192, 32768)
_AXES = ("front to back", "left to right")


@dataclass(frozen=True)
class Compared:
    """What is compared with what.

    Attributes:
        path: of the recording.
        noisy: its name in messages, such as "train_ns"; empty if the path alone names it.
        clean: the name of the clean image.
        width: of the window: 1400 HU, or the highest grey value.
        unit: "HU", or "grey values".
        stacked: whether the images are slices of one volume, and not independent images.
    """

    path: Path
    clean: str
    noisy: str = ""
    width: float = HU_WIDTH
    unit: str = "HU"
    stacked: bool = True

    def oddities(self, clean: Image, noisy: Image) -> tuple[str, ...]:
        """Warnings about a recording; none for a recording of the same voxels under noise.

        Args:
            clean: (Z, Y, X), air in place of padding.
            noisy: likewise.

        Raises:
            BadInput: if the recording is a copy of the clean image, is turned or mirrored, or has
                another unit (a slope of 4 or more, or of a quarter or less).
        """
        if np.array_equal(clean, noisy):
            if clean.size and clean.min() < clean.max():
                self._refuse(f"holds the voxels of {self.clean}: there is no noise", "Replace it")
            return ()
        side = 8 if min(clean.shape[1:]) >= 64 else 4
        a, b = _block_means(clean, side), _block_means(noisy, side)
        seen = self._body(a)
        if np.count_nonzero(seen) < _FEWEST_BLOCKS or a[seen].std() == 0:
            return ()
        alike = _correlation(a, b, seen)
        self._refuse_turned(a, b, alike)
        shift = _shift(clean, noisy, (a, b, side), seen, alike) if self.stacked else _no_shift()
        if any(shift):
            moved = ", ".join(map(str, shift))
            return (self._words(
                f"is shifted against {self.clean} by ({moved}) voxels (Z, Y, X). Resample it to "
                "the same grid"
            ),)  # fmt: skip
        if alike < _UNLIKE:
            return (self._words(
                f"hardly resembles {self.clean}: correlation {alike:.2f}, where recordings have "
                f"0.99. Check that both show the same {self._whose}"
            ),)  # fmt: skip
        odd = self._values(a[seen], b[seen]) or self._organs(a, b)
        return (*odd, *self._noise(clean, noisy))

    @property
    def _whose(self) -> str:
        return "patient and place" if self.stacked else "images in the same order"

    def _words(self, text: str) -> str:
        return f"{self.noisy} {text}".lstrip()

    def _refuse(self, cause: str, remedy: str) -> None:
        raise BadInput(self.path, self._words(cause), remedy)

    def _body(self, means: Means) -> npt.NDArray[np.bool_]:
        if self.unit != "HU":
            return np.ones(means.shape, bool)
        low, high = _BODY_HU
        return np.asarray((means > low) & (means < high), bool)

    def _refuse_turned(self, a: Means, b: Means, alike: float) -> None:
        best, how = alike, ""
        for name, turned in _turns(a, through=self.stacked):
            found = _correlation(turned, b, self._body(turned))
            if found > best:
                best, how = found, name
        if best > _better_than(alike):
            cause = (
                f"lies {how} against {self.clean}: turned back, the correlation is {best:.3f} "
                f"instead of {alike:.3f}"
            )
            self._refuse(cause, "Correct its voxels or its affine")

    def _values(self, a: Means, b: Means) -> tuple[str, ...]:
        slope, offset = _line(a, b)
        if abs(slope - 1) > _SLOPE:
            cause = f"has {slope:.3g} times the values of {self.clean}, {offset:+,.0f} {self.unit}"
            remedy = f"Convert it to the unit of {self.clean}"
            if not 1 / _OTHER_UNIT < slope < _OTHER_UNIT:
                self._refuse(cause, remedy)
            return (self._words(f"{cause}. {remedy}"),)
        apart = float(np.median(b - a))
        if abs(apart) <= _OFFSET * self.width:
            return ()
        where = "above" if apart > 0 else "below"
        cause = f"lies {abs(apart):,.0f} {self.unit} {where} {self.clean} on average"
        nearest = min(_INTERCEPTS, key=lambda each: abs(each - abs(apart)))
        if self.unit == "HU" and abs(nearest - abs(apart)) <= _OFFSET * self.width / 2:
            twice = f"applied twice, or missing in {self.clean}"
            cause += f": its intercept of {-nearest:,} HU seems to be "
            cause += "missing" if apart > 0 else twice
        return (self._words(f"{cause}. Correct its values, or the bias is learned and scored"),)

    def _organs(self, a: Means, b: Means) -> tuple[str, ...]:
        inner = _within_soft_tissue(a)
        if self.unit != "HU" or np.count_nonzero(inner) < _FEWEST_BLOCKS or a[inner].std() == 0:
            return ()
        slope, _ = np.polyfit(a[inner].astype(np.float64), b[inner].astype(np.float64), 1)
        left = np.std((b - slope * a)[inner])
        error = float(left / a[inner].std()) / math.sqrt(np.count_nonzero(inner))
        if abs(slope - 1) <= max(_SOFT_SLOPE, _CERTAIN * error):
            return ()
        return (self._words(
            f"shows other soft tissue than {self.clean}: its contrast is {slope:.2f} times as "
            f"large, at the same outline. Check that both show the same {self._whose}"
        ),)  # fmt: skip

    def _noise(self, clean: Image, noisy: Image) -> tuple[str, ...]:
        step = -(-len(clean) // _MOST_SLICES)
        a, b = (each[::step].astype(np.float32) for each in (clean, noisy))
        body = self._body(a)
        difference = float(np.std((b - a)[body]))
        if difference < _NO_NOISE * self.width:
            return (self._words(
                f"differs from {self.clean} by {difference:.2g} {self.unit} only: there is hardly "
                "any noise. Check that it is the noisy recording"
            ),)  # fmt: skip
        in_clean, in_noisy = _noise_level(a, body), _noise_level(b, body)
        if in_clean > max(_SWAPPED * in_noisy, _VISIBLE_NOISE * self.width):
            return (self._words(
                f"has less noise than {self.clean}: {in_noisy:.3g} against {in_clean:.3g} "
                f"{self.unit}. Swap the two if their names are interchanged"
            ),)  # fmt: skip
        return ()


def _block_means(image: Image, side: int) -> Means:
    """(Z, Y // side, X // side) means of square blocks, as far from one edge as from the other."""
    z, y, x = image.shape
    rows, columns = y // side, x // side
    top, left = (y - rows * side) // 2, (x - columns * side) // 2
    means = np.empty((z, rows, columns), np.float32)
    for i, slice_ in enumerate(image):
        part = slice_[top : top + rows * side, left : left + columns * side]
        means[i] = part.reshape(rows, side, columns, side).mean((1, 3), dtype=np.float32)
    return means


def _correlation(a: Means, b: Means, seen: npt.NDArray[np.bool_]) -> float:
    if np.count_nonzero(seen) < _FEWEST_BLOCKS:
        return 0.0
    one, other = a[seen].astype(np.float64), b[seen].astype(np.float64)
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _within_soft_tissue(means: Means) -> npt.NDArray[np.bool_]:
    """The blocks in soft tissue whose four neighbours in the slice are soft tissue."""
    low, high = _SOFT_HU
    padded = np.pad((means > low) & (means < high), ((0, 0), (1, 1), (1, 1)))
    rows, columns = padded[:, :, 1:-1], padded[:, 1:-1]
    beside = rows[:, :-2] & rows[:, 2:] & columns[:, :, :-2] & columns[:, :, 2:]
    return np.asarray(rows[:, 1:-1] & beside, bool)


def _better_than(alike: float) -> float:
    """The correlation that explains half of what is not explained by `alike`, or more."""
    return max(_BETTER, (1 + alike) / 2)


def _turns(means: Means, *, through: bool) -> Iterator[tuple[str, Means]]:
    """The other ways in which the blocks could lie, with their names."""
    square = means.shape[1] == means.shape[2]
    for z, turned, y, x in product((False, through), (False, square), (False, True), (False, True)):
        axes = tuple(axis for axis, flip in ((0, z), (1, y), (2, x)) if flip)
        if not axes and not turned:
            continue
        image = np.flip(means.transpose(0, 2, 1) if turned else means, axes)
        names = [name for name, flip in zip(_AXES, (y, x), strict=True) if flip and not turned]
        words = ["head to feet"] * z + names
        how = "mirrored " + " and ".join(words) if words else ""
        quarter = "turned by a quarter in its slices" if turned else ""
        yield " and ".join(part for part in (quarter, how) if part), image


def _line(a: Means, b: Means) -> tuple[float, float]:
    """Slope and offset of b over a by least squares, without the tenth that lies farthest off."""
    kept = np.ones(a.shape, bool)
    for _ in range(3):
        slope, offset = np.polyfit(a[kept].astype(np.float64), b[kept].astype(np.float64), 1)
        off = np.abs(b - slope * a - offset)
        kept = off <= np.quantile(off, 0.9)
        if a[kept].std() == 0:
            break
    return float(slope), float(offset)


def _no_shift() -> tuple[int, int, int]:
    return 0, 0, 0


def _shift(
    clean: Image, noisy: Image, means: tuple[Means, Means, int], seen: npt.NDArray[np.bool_],
    alike: float,
) -> tuple[int, int, int]:  # fmt: skip
    """The shift (Z, Y, X) at which the recording fits better; zeros if it fits best in place.

    Args:
        clean: (Z, Y, X).
        noisy: (Z, Y, X).
        means: of the blocks of both, and the side of these blocks.
        seen: blocks that are compared.
        alike: the correlation in place.
    """
    a, b, side = means
    least = _better_than(alike)
    for k in (-1, 1, -2, 2, -3, 3):
        here, there = slice(max(-k, 0), len(a) - max(k, 0)), slice(max(k, 0), len(a) - max(-k, 0))
        if abs(k) < len(a) and _correlation(a[here], b[there], seen[here]) > least:
            return k, 0, 0
    step = -(-len(clean) // _MOST_SLICES)
    y, x = _peak(clean[::step].astype(np.float32), noisy[::step].astype(np.float32))
    if not (y or x):
        return _no_shift()
    back = _block_means(np.roll(noisy[::step], (-y, -x), (1, 2)), side)
    return (0, y, x) if _correlation(a[::step], back, seen[::step]) > least else _no_shift()


def _peak(clean: npt.NDArray[np.float32], noisy: npt.NDArray[np.float32]) -> tuple[int, int]:
    """The shift (Y, X) with the highest correlation, if it lies within some voxels."""
    shape = clean.shape[1:]
    total = np.zeros((shape[0], shape[1] // 2 + 1), np.complex128)
    for one, other in zip(clean, noisy, strict=True):
        first, second = (np.fft.rfft2(image - image.mean()) for image in (one, other))
        total += np.conj(first) * second
    found = np.fft.irfft2(total, shape)
    place = np.unravel_index(int(np.argmax(found)), shape)
    y, x = (int(p) if p <= n // 2 else int(p) - n for p, n in zip(place, shape, strict=True))
    return (y, x) if max(abs(y), abs(x)) <= _FARTHEST else (0, 0)


def _noise_level(image: npt.NDArray[np.float32], seen: npt.NDArray[np.bool_]) -> float:
    """Standard deviation of the noise from diagonal differences (Donoho, 1995), where it is seen.

    Immune to edges, as the median of all of them.
    """
    y, x = (n // 2 * 2 for n in image.shape[1:])
    image, seen = image[:, :y, :x], seen[:, :y:2, :x:2]
    diagonal = image[:, ::2, ::2] - image[:, 1::2, ::2] - image[:, ::2, 1::2] + image[:, 1::2, 1::2]
    found = np.abs(diagonal[seen[:, : diagonal.shape[1], : diagonal.shape[2]]]) / 2
    return float(np.median(found)) / 0.6745 if found.size else 0.0
