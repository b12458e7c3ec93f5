"""Case images: the clean and the noisy image of a case, and its prior.

Validation during training and the comparison of methods score the same images, made by the same
function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from engine.inference.prior_image import prior_image
from engine.inference.tiling import blocks_of
from engine.recipe.recipe import Recipe
from volumes.boxes import Box, read_box
from volumes.sampling.noise import AsScanned, Noise
from volumes.volume import HU, Unit, Volume
from volumes.window import Window

# 2: noise is added before the window clips, and not to padding. Raise it with every change of what
# is scored, so that a resumed run does not compare scores of before and after.
SCORES_VERSION = 2
NOISE_SEED = 0  # the same for all runs and comparisons, so that scores are comparable


class CaseImages(NamedTuple):
    """The images of one case, or of some of its slices.

    Attributes:
        hu: (Z, Y, X) clean HU, never clipped; air in padding, and outside the field of view of a
            simulated scanner.
        clean: (Z, Y, X) in window units, clipped to [0, 1] where the window clips.
        noisy: (Z, Y, X) in window units. Padding has no noise, as in the files of `engine degrade`.
        padding: (Z, Y, X) mask. No scanner measured these voxels, and no method changes them.
        within: (Z, Y, X) mask of the measured voxels whose clean value lies in the window. The
            residual is described there: beyond the window, images are clipped.
    """

    hu: HU
    clean: Unit
    noisy: Unit
    padding: npt.NDArray[np.bool_]
    within: npt.NDArray[np.bool_]

    def part(self, slices: slice) -> CaseImages:
        """Some of the slices."""
        return self._each(lambda image: image[slices])

    def block(self, box: Box) -> CaseImages:
        """The voxels of a box."""
        return self._each(lambda image: read_box(image, box))

    def _each(self, part: Callable[[Any], Any]) -> CaseImages:
        return CaseImages(*map(part, self))

    def keeping_padding(self, estimate: Unit) -> Unit:
        """An estimate as `engine denoise` writes it: padding has the values of the scan."""
        return np.where(self.padding, self.noisy, estimate)


def case_images(
    volume: Volume, noise: Noise, window: Window, seed: int = NOISE_SEED,
    slices: slice = slice(None), *, clipped_first: bool = False,
) -> CaseImages:  # fmt: skip
    """The clean and the noisy image of a case.

    The noise is a function of (seed, case, slice). It is the same in every run, for every network
    and for any choice of slices.

    Noise is added to the scan, not to its clipped image, so that the noisy image is that of the
    file which `engine degrade` writes. It is then clipped to the bounds of the noise, as in `engine
    denoise`, where the window clips.

    Args:
        volume: the clean scan.
        noise: makes the noisy image, or reads its recording.
        window: HU <-> window units.
        seed: of the noise.
        slices: of the volume, without a step.
        clipped_first: whether noise is added to the image that is clipped to the window, and not
            clipped afterwards, as in Abascal et al. (2020).
    """
    hu = noise.reference(volume, slices)
    unit = window.unit(hu)
    clean = np.clip(unit, 0, 1) if window.clip else unit
    padding = volume.padding(slices)
    first, _, _ = slices.indices(volume.hu.shape[0])
    noisy = noise.noisy(volume, clean if clipped_first else unit, window, seed, first)
    if window.clip and not clipped_first:
        low, high = noise.bounds
        noisy = np.clip(noisy, np.float32(low), np.float32(high))
    within = ~padding & (unit >= 0) & (unit <= 1)
    return CaseImages(hu, clean, np.where(padding, clean, noisy), padding, within)


@dataclass(frozen=True)
class Pair:
    """The images of one validation case.

    Attributes:
        level: of its noise, such as "5%"; empty if the recipe validates at one level.
        case: its name.
        images: clean and noisy.
        prior: (Z, Y, X) in window units; None if the recipe has none.
        known: (Z, Y, X) mask of the voxels that are scored; None for all. Scans without a clean
            image are scored where neighbouring slices show the same anatomy.
        first: the scan's slice, counted from 0, that is the first of the images.
        depth: slices of the scan.
    """

    level: str
    case: str
    images: CaseImages
    prior: Unit | None
    known: npt.NDArray[np.bool_] | None = None
    first: int = 0
    depth: int = 0

    @property
    def clean(self) -> Unit:
        """(Z, Y, X) in window units."""
        return self.images.clean

    @property
    def noisy(self) -> Unit:
        """(Z, Y, X) in window units."""
        return self.images.noisy


def pair(recipe: Recipe, volume: Volume, slices: int | None = None, level: str = "") -> Pair:
    """The clean and the noisy image of a case, and its prior.

    Args:
        recipe: gives window, noise and prior.
        volume: the clean scan.
        slices: number of central slices; None takes all.
        level: label of the recipe's noise.
    """
    depth = volume.hu.shape[0]
    length = min(depth, slices or depth)
    first = (depth - length) // 2
    part = slice(first, first + length)
    images = case_images(volume, recipe.noise, recipe.window, slices=part)
    known = recipe.noise.known(volume, part) if isinstance(recipe.noise, AsScanned) else None
    if recipe.prior is None:
        return Pair(level, volume.case, images, None, known, first, depth)
    shape = (length, *volume.hu.shape[1:])
    prior = prior_image(
        recipe.prior, blocks_of(images.noisy), shape, recipe.noise.typical, volume.spacing_mm[0],
        blocks_of(images.clean),
    )  # fmt: skip
    whole = Box((0, 0, 0), shape)
    return Pair(level, volume.case, images, prior(whole), known, first, depth)


def levels(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe at each of its validation levels, by the label of the level.

    Raises:
        ValueError: if its noise has no such level.
    """
    if not recipe.validate_at:
        return {"": recipe}
    return {
        label: replace(recipe, noise=noise, validate_at=())
        for level in recipe.validate_at
        for label, noise in cast(Mapping[str, Noise], recipe.noise.at(level)).items()
    }
