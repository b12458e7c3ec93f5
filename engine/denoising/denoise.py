"""Denoising of one scan: the network's estimate, tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.denoising import sidecar
from engine.denoising.finishing import Finishing
from engine.denoising.pipeline import Ahead, Behind, Worker
from engine.denoising.rounding import Rounding, rounding
from engine.errors import BadInput, BadUsage, NumericalFailure
from engine.inference.poses import poses_of
from engine.inference.prior_image import prior_image
from engine.inference.tiling import Blocks, Plan, plan
from engine.recipe.recipe import Recipe
from engine.runs.trained_model import Model
from engine.scoring.residual import leak_warnings
from engine.scoring.scan_noise import scan_noise
from volumes.boxes import Box, read_box
from volumes.dicom import open_ct
from volumes.nifti import Scan, Stored
from volumes.nifti.deidentify import cleared
from volumes.nifti.grid import on_one_grid
from volumes.padding import padding_of
from volumes.volume import AIR_HU, Shape, Unit
from volumes.window import Window

_MOST_STRENGTH = 1.5
_MOST_PHOTONS = 1e15
_SEAM_HU = 0.01


@dataclass(frozen=True)
class DenoiseSettings:
    """Options for denoising one scan.

    Attributes:
        prior: a second scan of the same patient on the same grid, in place of the computed prior.
        tile: (Z, Y, X) voxels of a tile without halo; None chooses them by free memory.
        strength: 0 returns the input, 1 is the network's estimate.
        photons: a ray, of the scan, for a dose-aware network.
        reproducible: whether tiles and sidecar are independent of time and machine.
        strip: whether free text and extensions are removed from the header of the output.
        streamed: whether the given tile is one of a stream; without a tile the plan decides.
        poses: whether the estimates of the turned and mirrored slices are averaged.
    """

    prior: Path | None = None
    tile: Shape | None = None
    strength: float = 1.0
    photons: float | None = None
    reproducible: bool = False
    strip: bool = False
    streamed: bool = False
    poses: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= _MOST_STRENGTH:
            cause = f"must lie between 0 and {_MOST_STRENGTH:g}, not {self.strength:g}"
            raise BadUsage("--strength", cause, "1 is the network's estimate")
        if self.photons is not None and not 1 <= self.photons <= _MOST_PHOTONS:
            cause = f"must lie between 1 and {_MOST_PHOTONS:g}, not {self.photons:g}"
            raise BadUsage("--photons", cause, "Give the photons a ray of the scan, such as 1e5")
        if self.tile is not None and (len(self.tile) != 3 or min(self.tile) < 1):
            cause = f"must be three positive numbers Z,Y,X, not {self.tile}"
            raise BadUsage("--tile", cause, "Leave it out to have it chosen")


@dataclass(frozen=True)
class Denoised:
    """A denoised scan in memory.

    Attributes:
        scan: the input, whose header the output keeps.
        before, after: stored arrays in the order of the file.
        about: content of the sidecar.
        rounding: by the precision of the network; None in float32.
    """

    scan: Scan
    before: Stored
    after: Stored
    about: dict[str, Any]
    rounding: Rounding | None = None

    def residual(self) -> npt.NDArray[np.float32]:
        """Input - output in HU, in the order of the file; 0 where the input is not finite."""
        with np.errstate(invalid="ignore"):
            difference = self.scan.hu(self.before)
            difference -= self.scan.hu(self.after)
        difference[~np.isfinite(difference)] = 0
        return difference


def plan_for(scan: Scan, recipe: Recipe, request: DenoiseSettings) -> Plan:
    """The tiles of a scan for a recipe's network."""
    found = plan(
        scan.shape, recipe.network, request.tile,
        anywhere=request.reproducible, streamed=request.streamed,
    )  # fmt: skip
    return found.separate() if request.poses and found.streamed else found


def denoise(
    scan: Scan, model: Model, estimator: Any, request: DenoiseSettings,
    tick: Callable[[int], None], second: Scan | None = None,
) -> Denoised:  # fmt: skip
    """Denoises a scan, tile by tile.

    While the network is applied to a tile, the next one is prepared and the last one is finished,
    each in a thread: at most one tile before the network and two behind it are in memory.

    Args:
        scan: from `open_ct`; a loaded one is not read again.
        model: whose window, prior and network are used.
        estimator: the `Predictor` of the model.
        request: options.
        tick: called with the number of finished tiles.
        second: from `second_scan`; None opens the prior of the request, if any.

    Raises:
        BadInput: if the scan or the second scan cannot be used, or changes meanwhile.
        BadUsage: if the network takes no prior but a second scan is given, or its receptive field
            is larger than the halo of the tiles.
        NumericalFailure: if the network's estimate is not finite.
    """
    window = model.recipe.window
    before = scan.read()
    after = before.copy(order="K")
    source, target = scan.canonical(before), scan.canonical(after)
    mask = padding_of(scan.hu, source)
    noisy = _noisy_blocks(scan, source, mask, model.recipe)
    second = second or second_scan(scan, model.recipe, request.prior)
    sigma = _sigma(scan, source, model.recipe)
    prior = _prior_blocks(scan, noisy, model.recipe, second, sigma)
    tiles = estimator.planned(plan_for(scan, model.recipe, request))
    if tiles.count > 1:
        _refuse_seams(estimator.beyond_halo(model.recipe.network) * window.width_hu, model.recipe)
    lost = rounding(estimator, noisy, prior, mask, model.recipe, anywhere=request.reproducible)
    instead = "Use --precision float32, or another model" if lost else "Use another model"
    finishing = Finishing(scan, source, target, mask, noisy, window, request.strength)
    with Worker("prepares slabs") as preparing, Worker("finishes slabs") as following:
        ahead = [blocks and Ahead(blocks, tiles.reads(), preparing) for blocks in (noisy, prior)]
        behind = Behind(following)
        for box, estimate in estimator.tiles(tiles, *ahead):
            tick(behind.put(partial(_finish, finishing, box, estimate, model, instead)))
        tick(behind.wait())
    precision = lost.about() if lost else sidecar.FULL_PRECISION
    measured = {"tiles": tiles.about(), **finishing.measured(), "precision": precision}
    about = _about(scan, model, request, second, measured)
    about["warnings"] += lost.warnings() if lost else []
    if request.strip:
        scan = replace(scan, header=replace(scan.header, head=cleared(scan.head)))
    return Denoised(scan, before, after, about, lost)


def _finish(finishing: Finishing, box: Box, estimate: Unit, model: Model, instead: str) -> None:
    if not np.isfinite(estimate).all():
        raise NumericalFailure(model.path, "gives numbers that are not finite", instead)
    finishing.finish(box, estimate)


def _about(
    scan: Scan, model: Model, request: DenoiseSettings, second: Scan | None,
    measured: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """What the sidecar records of a denoised scan."""
    warnings = [*scan.warnings, *leak_warnings(measured["residual"])]
    if saturated := measured["voxels"]["saturated"]:
        warnings.append(f"{saturated:,} voxels were saturated by the file's datatype")
    return {
        "notice": sidecar.NOTICE,
        **sidecar.origin(model),
        **input_record(scan, request, second, model.recipe.window),
        **measured,
        "warnings": warnings,
    }


def input_record(
    scan: Scan, request: DenoiseSettings, second: Scan | None, window: Window
) -> dict[str, Any]:
    """What the sidecar records of the input and the settings: with the model, all that decides.

    Raises:
        BadInput: if a scan was changed after it was opened, or cannot be read.
    """
    return {
        "input_sha256": scan.sha256(),
        "input_volume": scan.trust.volume,
        **({"input_axes": scan.trust.axes} if scan.trust.axes else {}),
        "second_scan_sha256": second.sha256() if second else None,
        "header": "free text cleared" if request.strip else "kept",
        "window_hu": [window.low_hu, window.high_hu],
        "strength": request.strength,
        **({"photons": request.photons} if request.photons else {}),
        **({"poses": True} if request.poses else {}),
    }


def _refuse_seams(beyond_hu: float, recipe: Recipe) -> None:
    if beyond_hu > _SEAM_HU:
        kind = type(recipe.network).__name__
        cause = f"would leave seams of {beyond_hu:.3g} HU: {kind} sees beyond its radius"
        raise BadUsage("--tile", cause, "Choose one tile as large as the scan")


def _noisy_blocks(
    scan: Scan, source: Stored, mask: npt.NDArray[np.bool_], recipe: Recipe
) -> Blocks:
    def block(box: Box) -> Unit:
        hu = scan.hu(np.ascontiguousarray(read_box(source, box)))
        gaps = read_box(mask, box)
        if gaps.any():
            hu[gaps] = AIR_HU
        return recipe.seen(recipe.window.unit(hu))

    return block


def _sigma(scan: Scan, source: Stored, recipe: Recipe) -> float:
    """The standard deviation of the noise that a prior is made with, in window units.

    It is measured where the network learned a range of noise and its prior depends on the noise: in
    training the prior is made with that of each example. Where it cannot be measured, it is the
    middle of the range.
    """
    low, high = recipe.noise.range
    if recipe.prior is None or not recipe.prior.of.needs_sigma or low == high:
        return recipe.noise.typical
    measured_hu = scan_noise(source, scan.spacing_mm, scan.hu).sigma_hu
    return recipe.noise.typical if measured_hu is None else measured_hu / recipe.window.width_hu


def _prior_blocks(
    scan: Scan, noisy: Blocks, recipe: Recipe, other: Scan | None, sigma: float
) -> Blocks | None:
    if other is not None:
        voxels = other.canonical(other.read())
        return _noisy_blocks(other, voxels, padding_of(other.hu, voxels), recipe)
    if recipe.prior is None:
        return None
    return prior_image(recipe.prior, noisy, scan.shape, sigma, scan.spacing_mm[0])


def check_settings(request: DenoiseSettings, recipe: Recipe) -> None:
    """Refuses settings that the network does not take, and a missing dose.

    Raises:
        BadUsage: with the option.
    """
    kind = type(recipe.network).__name__
    if recipe.network.sees_dose and request.photons is None:
        cause = f"is missing, and the {kind} needs the dose"
        raise BadUsage("--photons", cause, "Give the photons a ray of the scan, such as 1e5")
    if request.photons is not None and not recipe.network.sees_dose:
        raise BadUsage("--photons", f"the {kind} takes no dose", "Leave it out")
    if request.poses and len(poses_of(recipe.crop)) == 1:
        raise BadUsage("--poses", f"the {kind} was trained on upright slices", "Leave it out")


def second_scan(scan: Scan, recipe: Recipe, second: Path | Scan | None) -> Scan | None:
    """The second scan that is the prior, with a checked header; None without one.

    Args:
        scan: that is denoised.
        recipe: of the network.
        second: a file, or a scan in memory.

    Raises:
        BadInput: if it is not on the grid of the first.
        BadUsage: if the network takes no prior, or needs a second scan.
    """
    if second is None:
        if recipe.prior is not None and recipe.prior.of.is_oracle:
            cause = "was trained with clean slices as its prior, which no noisy scan gives"
            raise BadUsage("--model", cause, "Give a second scan by --prior, or use another model")
        return None
    if not recipe.network.sees_prior:
        kind = type(recipe.network).__name__
        raise BadUsage("--prior", f"{kind} sees no prior", "Use a model that does, or leave it out")
    other = (
        second if isinstance(second, Scan) else open_ct(second, replace(scan.trust, volume=None))
    )
    if not on_one_grid(other, scan):
        cause = f"is not on the grid of {scan.path}"
        raise BadInput(other.path, cause, "Register and resample it to that scan first")
    return other
