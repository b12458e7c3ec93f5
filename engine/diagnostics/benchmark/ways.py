"""The engine's ways to apply a network to a scan, and the stages of the whole command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engine.denoising.denoise import DenoiseSettings, denoise
from engine.denoising.writer import write
from engine.diagnostics.benchmark.case import Case
from engine.inference.predictor import Predictor
from engine.inference.tiling import Plan, blocks_of
from volumes import nifti
from volumes.volume import Unit

Way = Callable[[], Unit]

UNTILED = "network, untiled"
STREAMED = "network, streamed"
COMMAND = "read, network streamed, finish, write"
STAGES = {
    "volumes.nifti.opening:open_scan": "read, decompress",
    "volumes.nifti.scan:Scan.loaded": "read, decompress",
    "volumes.padding:padding_of": "padding",
    "engine.denoising.denoise:_noisy_blocks.<locals>.block": "blocks",
    "engine.inference.predictor:Predictor.tiles": "network, streamed",
    "engine.denoising.bone:BoneWeight.weight": "bone",
    "engine.denoising.denoise:denoise": "finish",
    "engine.scoring.residual:ResidualStatistics.add": "residual statistics",
    "engine.denoising.writer:write": "write, compress",
}


def ours(case: Case) -> dict[str, Way]:
    """The network alone, untiled, streamed and tiled; and all that the command does with a scan."""
    predictor, network = Predictor(case.network), case.model.recipe.network
    z, y, x = case.image.shape
    untiled = Plan((z, y, x), (z, y, x), network)
    plans = {
        UNTILED: untiled,
        STREAMED: untiled.in_slabs(),
        f"network, tiles that keep {case.tile_text}": Plan((z, y, x), case.tile, network),
    }
    noisy = blocks_of(case.image)
    ways: dict[str, Way] = {
        name: partial(predictor.volume, plan, noisy, None) for name, plan in plans.items()
    }
    return ways | {COMMAND: partial(_denoised, case, predictor, plans[STREAMED])}


def _denoised(case: Case, predictor: Predictor, plan: Plan) -> Unit:
    scan = nifti.open_scan(case.scan).loaded()
    settings = DenoiseSettings(tile=plan.tile, streamed=plan.streamed)
    found = denoise(scan, case.model, predictor, settings, lambda done: None)
    write(found, case.folder / "denoised.nii.gz", residual=False, overwrite=True)
    return case.model.recipe.window.unit(scan.hu(scan.canonical(found.after)))
