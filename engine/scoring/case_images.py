"""Case images: the clean and the noisy image of a case, and its prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from engine.inference.prior_image import prior_image
from engine.inference.tiling import blocks_of
from engine.recipe.recipe import Recipe
from volumes.boxes import Box
from volumes.sampling.noise import Noise
from volumes.volume import Unit, Volume

_SEED = 0  # of validation's noise: the same for every run, so that runs can be compared


@dataclass(frozen=True)
class Pair:
    """One validation case, made once and never changed.

    Attributes:
        level: of its noise, such as "5%"; empty where the recipe validates at one level.
        case: its name.
        clean, noisy, prior: (Z, Y, X) in window units; no prior where the recipe has none.
    """

    level: str
    case: str
    clean: Unit
    noisy: Unit
    prior: Unit | None


def pair(recipe: Recipe, volume: Volume, slices: int | None = None, level: str = "") -> Pair:
    """The clean and the noisy image of a case, and its prior.

    The noise is keyed by the case and the slice alone: it is the same in every run and for every
    network.

    Args:
        recipe: gives window, noise and prior.
        volume: the clean scan.
        slices: how many, about the middle; None takes all.
        level: label of the recipe's noise.
    """
    depth = volume.hu.shape[0]
    length = min(depth, slices or depth)
    first = (depth - length) // 2
    hu = recipe.noise.reference(volume.hu[first : first + length])
    clean = recipe.window.unit(hu)
    if recipe.window.clip:
        clean = np.clip(clean, 0, 1)
    noisy = recipe.noise.noisy(volume, clean, recipe.window, _SEED, first)
    if recipe.prior is None:
        return Pair(level, volume.case, clean, noisy, None)
    shape = (length, clean.shape[1], clean.shape[2])
    prior = prior_image(
        recipe.prior, blocks_of(noisy), shape, recipe.noise.typical, volume.spacing_mm[0],
        blocks_of(clean),
    )  # fmt: skip
    return Pair(level, volume.case, clean, noisy, prior(Box((0, 0, 0), shape)))


def levels(recipe: Recipe) -> dict[str, Recipe]:
    """A recipe at each level that it is validated at, by the level's label.

    Raises:
        ValueError: where its noise has no such level.
    """
    if not recipe.validate_at:
        return {"": recipe}
    return {
        label: replace(recipe, noise=noise, validate_at=())
        for level in recipe.validate_at
        for label, noise in cast(Mapping[str, Noise], recipe.noise.at(level)).items()
    }
