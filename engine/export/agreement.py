"""Agreement: how far an exported network is from the engine's, in HU.

Both get the same images, in two shapes: a file that is bound to the shape of one of them fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import BadUsage, NumericalFailure
from engine.inference.prior_image import prior_image
from engine.inference.tiling import blocks_of
from engine.networks import Network
from engine.recipe.recipe import Recipe
from volumes import random_draws
from volumes.boxes import Box
from volumes.nifti import Scan
from volumes.phantoms.abdomen import abdomen
from volumes.tiles import padded
from volumes.tomography.photon_noise import FULL_DOSE, log_dose
from volumes.volume import Shape, Unit
from volumes.window import Window

# Both sides compute in float32 and add in another order, which changes some 1e-7 to 1e-5 of the
# window. 1e-4 is 0.14 HU for a window of 1400 HU: less than half a step of a scan stored in whole
# HU. A wrong layer, weight, padding or axis differs by far more.
LIMIT = 1e-4
PHANTOM = "phantom"
_SMALL, _LARGE = (2, 40, 56), (8, 96, 128)

Tensors = Mapping[str, npt.NDArray[np.float32]]
Applied = Callable[[Tensors], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Sample:
    """Images on which both networks are compared.

    Attributes:
        source: "phantom", or the SHA-256 of a scan.
        examples: inputs of the network by name, (1, Z, Y, X, 1), in two shapes.
    """

    source: str
    examples: tuple[Tensors, ...]

    @property
    def shapes(self) -> list[list[int]]:
        """The (Z, Y, X) of the examples."""
        return [list(example["noisy"].shape[1:4]) for example in self.examples]


def sample(recipe: Recipe, scan: Scan | None) -> Sample:
    """The middle of a scan, or a phantom with noise of the recipe's typical level.

    Args:
        recipe: of the network.
        scan: None makes the phantom.

    Raises:
        BadInput: if the voxels of the scan cannot be read.
        Mismatch: if the network of a prior cannot be used.
    """
    if scan is None:
        noisy, spacing_z_mm, source = *_phantom(recipe), PHANTOM
    else:
        noisy = recipe.window.unit(scan.read_hu())
        spacing_z_mm, source = scan.spacing_mm[0], scan.sha256()
    seen = recipe.seen(noisy)
    examples = (_example(recipe, seen, shape, spacing_z_mm) for shape in (_SMALL, _LARGE))
    return Sample(source, tuple(examples))


def _phantom(recipe: Recipe) -> tuple[Unit, float]:
    hu, spacing_mm = abdomen((12, 128, 160), rng=random_draws.rng(0, "export"))
    noise = random_draws.rng(0, "export noise").standard_normal(hu.shape, np.float32)
    noise *= np.float32(_sigma(recipe))
    # In window units whatever the recipe's window: one of grey values would see air alone.
    return Window().unit(hu) + noise, spacing_mm[0]


def _sigma(recipe: Recipe) -> float:
    """The typical noise in window units; 0.1 for noise that is recorded or was there before."""
    typical = recipe.noise.typical
    return typical if math.isfinite(typical) and typical > 0 else 0.1


def _example(recipe: Recipe, noisy: Unit, least: Shape, spacing_z_mm: float) -> Tensors:
    """The inputs of a box in the middle of a volume, reflected where the volume is smaller."""
    network: Network = recipe.network
    shape = padded(least, network.stride)
    start = tuple(max(0, (n - m) // 2) for n, m in zip(noisy.shape, shape, strict=True))
    box = Box((start[0], start[1], start[2]), shape)
    blocks = blocks_of(noisy)
    images = {"noisy": blocks(box)}
    if network.sees_prior:
        prior, (depth, height, width) = recipe.prior, noisy.shape
        if prior is None or prior.of.is_oracle:  # a second scan takes its place
            images["prior"] = images["noisy"][:, ::-1]
        else:
            whole = (depth, height, width)
            found = prior_image(prior, blocks, whole, _sigma(recipe), spacing_z_mm)
            images["prior"] = found(box)
    if network.sees_dose:
        photons = recipe.noise.typical_photons or FULL_DOSE
        images["dose"] = np.full((1, 1, 1), log_dose(photons), np.float32)
    return {
        name: np.ascontiguousarray(image[None, ..., None], np.float32)
        for name, image in images.items()
    }


def largest_difference_hu(model: Any, applied: Applied, given: Sample, window: Window) -> float:
    """The largest difference between the engine's estimates and those of an exported network.

    Args:
        model: the Keras model.
        applied: the exported network.
        given: the images.
        window: HU <-> window units.

    Raises:
        NumericalFailure: if the engine's estimate is not finite.
    """
    found = 0.0
    for example in given.examples:
        images = [example[image.name] for image in model.inputs]
        own = np.asarray(model(images if len(images) > 1 else images[0], training=False))
        if not np.isfinite(own).all():
            raise NumericalFailure(
                "export", "the network gives numbers that are not finite", "Use another model"
            )
        other = applied(example)
        alike = other.shape == own.shape and np.isfinite(other).all()
        found = max(found, float(np.abs(other - own).max()) if alike else np.inf)
    return found * window.width_hu


def limit_hu(window: Window) -> float:
    """The largest difference in HU at which an exported network is written."""
    return LIMIT * window.width_hu


def refuse_different(target: Path, difference_hu: float, window: Window) -> None:
    """Refuses an exported network that is further from the engine's than `limit_hu`.

    Raises:
        NumericalFailure: naming the file that is not written.
    """
    if not difference_hu <= (most := limit_hu(window)):
        unit = window.unit_name
        cause = f"would differ from the engine by {difference_hu:.3g} {unit}, above {most:.3g}"
        raise NumericalFailure(target, cause, "Use the other format, and report the network")


def refuse_unknown_inputs(network: Network, names: list[str]) -> None:
    """Refuses a network of the user's own with inputs that the engine does not name.

    Raises:
        BadUsage: naming the inputs.
    """
    wanted = ["noisy", *["prior"] * network.sees_prior, *["dose"] * network.sees_dose]
    if names != wanted:
        cause = f"has a network with the inputs {', '.join(names)}, not {', '.join(wanted)}"
        raise BadUsage("MODEL", cause, "Name its inputs by engine.networks.layers.image")
