"""Demo: training, denoising and scoring on phantoms, in a few minutes on two cores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.denoising.denoise_request import DenoiseRequest
from engine.denoising.denoise_scans import denoise_scans
from engine.errors import BadUsage
from engine.recipe.recipe_file import DEFAULT, find_recipe, load_recipe
from engine.runs.run import Run
from engine.scoring.metrics import scores
from engine.simulation.degrade import degrade
from engine.terminal import Terminal
from engine.training.fit import fit
from engine.training.fit_request import FitRequest
from engine.training.seat import seat
from engine.training.signals import Stop
from volumes import nifti, random_draws
from volumes.dataset import find_cases
from volumes.phantoms.abdomen import abdomen
from volumes.storage.atomic import make_folder
from volumes.volume import Shape

CASES, SHAPE = 8, (24, 160, 160)

# Overrides of the demo. The learning rate is higher than in a long training.
SMALL = (
    "crop.shape=16,64,64",
    "network.width=8",
    "learning_rate=cosine:2e-3,1e-5",
    "batch=2",
    "steps=600",
    "validate_every=200",
    "checkpoint_every=200",
    "split.validation=1",
    "split.test=1",
)


def fit_demo(request: FitRequest, terminal: Terminal, stop: Stop, *, own_data: bool) -> None:
    """Trains a small version of a recipe on phantoms, and denoises an unseen phantom.

    Args:
        request: its overrides are applied after those of the demo, its preset is replaced.
        terminal: for messages.
        stop: checked between steps.
        own_data: whether the data of the request are used instead of phantoms.

    Raises:
        Refusal: of the kind that the exit code of the contract names.
    """
    if not request.dry_run and seat() is not None:
        cause = "trains in one process, and TF_CONFIG or srun starts several"
        raise BadUsage("--demo", cause, "Leave it out, or start one process")
    source = find_recipe(str(request.recipe or DEFAULT))
    name = source.stem
    if not load_recipe(source).noise.additive:
        cause = f"needs additive noise, and {name} has other noise"
        raise BadUsage("--demo", cause, "Choose another recipe, or leave out --demo")
    run = request.run or Path("runs") / f"{name}-demo"
    request = replace(request, recipe=str(source), preset=SMALL, run=run)
    if not own_data:
        with stop.at_once():
            request = replace(request, data=phantoms(run.with_name(f"{run.name}-phantoms")))
    fit(request, terminal, stop)
    if not request.dry_run:
        with stop.at_once():
            show(Run(run), request.data, request.devices, terminal)


def write_phantoms(folder: Path, cases: int, shape: Shape, seed: int) -> list[Path]:
    """Writes phantoms in KiTS19's layout; phantom i is a function of (seed, i, shape).

    Raises:
        CannotWrite: if one exists or cannot be written.
    """
    paths = []
    for i in range(cases):
        path = folder / f"case_{i:05d}" / "imaging.nii.gz"
        hu, spacing_mm = abdomen(shape, rng=random_draws.rng(seed, "phantom", i))
        make_folder(path.parent)
        nifti.write_hu(path, hu, spacing_mm)
        paths.append(path)
    return paths


def phantoms(folder: Path) -> Path:
    """The demo's data, written if they do not exist."""
    if not folder.is_dir() or len(find_cases(folder)) < CASES:
        write_phantoms(folder, CASES, SHAPE, seed=0)
    return folder


def show(run: Run, data: Path, devices: str, terminal: Terminal) -> None:
    """Denoises the noisy test phantom, and scores it against the clean one."""
    recipe = run.recipe()
    sides = recipe.split.assign(data, find_cases(data))
    test = (sides["test"] or sides["validation"])[0]
    folder = run.folder / "demo"
    make_folder(folder)
    noisy, denoised = folder / f"{test.name}.nii.gz", folder / f"{test.name}_denoised.nii.gz"
    sigma = recipe.noise.typical
    noise: Any = next(iter(recipe.noise.at(sigma).values()))
    degrade(test.path, noisy, noise, seed=recipe.seed, overwrite=True)
    preview = folder / "preview.png"
    request = DenoiseRequest(
        (noisy,), run, output=denoised, preview=preview, overwrite=True, devices=devices
    )
    denoise_scans(request, terminal)
    window = recipe.window
    clean, before, after = (
        window.unit(nifti.open_scan(path).read_hu()) for path in (test.path, noisy, denoised)
    )
    rows = []
    for name, estimate in (("noisy", before), ("denoised", after)):
        score = scores(clean, estimate, window)
        rows.append(
            [name, f"{score.psnr_db:.2f}", f"{score.ssim:.4f}", f"{score.relative_l2_percent:.2f}",
             f"{score.rmse_hu:.1f}"]
        )  # fmt: skip
    title = (
        f"{test.name}, noise {sigma:.0%} of the window [{window.low_hu:g}, {window.high_hu:g}] HU"
    )
    terminal.table(title, ["", "PSNR (dB)", "SSIM", "relative L2 (%)", "RMSE (HU)"], rows)
