"""The demo: the whole path on phantoms, small enough for two cores and a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.denoising.denoise import Request
from engine.denoising.denoise_scans import Job, restore
from engine.runs.run import Run
from engine.scoring.metrics import scores
from engine.simulation.degrade import degrade
from engine.terminal import Terminal
from volumes import nifti, random_draws
from volumes.dataset import find_cases
from volumes.phantoms.abdomen import abdomen
from volumes.storage.atomic import make_folder
from volumes.volume import Shape

CASES, SHAPE = 8, (24, 160, 160)

# What the demo changes of a recipe. The rate is higher than a long training wants.
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


def write_phantoms(folder: Path, cases: int, shape: Shape, seed: int) -> list[Path]:
    """Writes phantoms in KiTS19's layout; phantom i is a function of (seed, i, shape).

    Raises:
        CannotWrite: where one exists or the system refuses.
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
    """The demo's data: made where they are not there yet."""
    if not folder.is_dir() or len(find_cases(folder)) < CASES:
        write_phantoms(folder, CASES, SHAPE, seed=0)
    return folder


def show(run: Run, data: Path, devices: str, terminal: Terminal) -> None:
    """Denoises the test phantom as a user would, and scores it against the truth."""
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
    job = Job(
        run=run, checkpoint="best", request=Request(), output=denoised, preview=preview,
        residual=False, overwrite=True, devices=devices,
    )  # fmt: skip
    restore(job, [noisy], terminal, only_plan=False)
    window = recipe.window
    clean, before, after = (
        window.unit(nifti.open_scan(path).read_hu()[0]) for path in (test.path, noisy, denoised)
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
