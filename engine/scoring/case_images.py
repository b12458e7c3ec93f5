"""Case images: the clean and the noisy image of a case, and its prior.

Validation during training and the comparison of methods score the same images, made by the same
function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np

from engine.inference.prior_image import prior_image
from engine.inference.tiling import blocks_of
from engine.recipe.recipe import Recipe
from volumes.boxes import Box
from volumes.sampling.noise import Noise
from volumes.volume import HU, Unit, Volume
from volumes.window import Window

NOISE_SEED = 0  # the same for all runs and comparisons, so that scores are comparable


class CaseImages(NamedTuple):
    """The images of one case, or of some of its slices.

    Attributes:
        hu: (Z, Y, X) clean HU, never clipped; air outside the field of view of a simulated scanner.
        clean: (Z, Y, X) in window units, clipped to [0, 1] where the window clips.
        noisy: (Z, Y, X) in window units.
    """

    hu: HU
    clean: Unit
    noisy: Unit


def case_images(
    volume: Volume, noise: Noise, window: Window, seed: int = NOISE_SEED,
    slices: slice = slice(None),
) -> CaseImages:  # fmt: skip
    """The clean and the noisy image of a case.

    The noise is a function of (seed, case, slice). It is the same in every run, for every network
    and for any choice of slices.

    Args:
        volume: the clean scan.
        noise: makes the noisy image, or reads its recording.
        window: HU <-> window units.
        seed: of the noise.
        slices: of the volume, without a step.
    """
    hu = noise.reference(volume.hu[slices])
    clean = window.unit(hu)
    if window.clip:
        clean = np.clip(clean, 0, 1)
    first, _, _ = slices.indices(volume.hu.shape[0])
    return CaseImages(hu, clean, noise.noisy(volume, clean, window, seed, first))


@dataclass(frozen=True)
class Pair:
    """The images of one validation case.

    Attributes:
        level: of its noise, such as "5%"; empty if the recipe validates at one level.
        case: its name.
        clean, noisy, prior: (Z, Y, X) in window units; prior is None if the recipe has none.
    """

    level: str
    case: str
    clean: Unit
    noisy: Unit
    prior: Unit | None


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
    _, clean, noisy = case_images(volume, recipe.noise, recipe.window, slices=part)
    if recipe.prior is None:
        return Pair(level, volume.case, clean, noisy, None)
    shape = (length, clean.shape[1], clean.shape[2])
    prior = prior_image(
        recipe.prior, blocks_of(noisy), shape, recipe.noise.typical, volume.spacing_mm[0],
        blocks_of(clean),
    )  # fmt: skip
    return Pair(level, volume.case, clean, noisy, prior(Box((0, 0, 0), shape)))


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
