"""`engine doctor`: checks that this machine trains, denoises, resumes and refuses damaged scans.

It takes less than a minute, uses phantoms, and removes its folder. It runs the commands of a user
and compares the results with those of a machine on which all tests pass.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from engine import runtime
from engine.checkpoints import checkpoint
from engine.diagnostics.demo import write_phantoms
from engine.recipe.overrides import override
from engine.recipe.recipe_file import find_recipe, load_recipe
from engine.runs.run import Run
from engine.runtime import Runtime
from engine.terminal import Terminal
from volumes import nifti, random_draws
from volumes.dataset.store import default_root
from volumes.errors import BadInput
from volumes.phantoms.abdomen import abdomen
from volumes.sampling.examples import Examples
from volumes.volume import Volume

# The losses of three small steps in float32: what `losses` returns on a correct machine.
LOSSES = (0.0131991, 0.00575158, 0.00310500)
_LOSS_TOLERANCE = 5e-3  # kernels sum in different orders, and GPUs may round products
_SMALL = ("crop.shape=8,32,32", "network.width=4", "batch=2")
_TINY = (
    "crop.shape=8,16,16", "network.width=2", "batch=2", "split.validation=1", "split.test=0",
    "steps=80", "checkpoint_every=10", "validate_every=80", "validate_slices=2",
)  # fmt: skip
_SEAM_HU = 0.01
_DAMAGES = 40
_LEAST_FREE_GIB = 2.0
_PATIENCE_S = 120


class CheckFailed(Exception):  # noqa: N818 (a finding, no error of the program)
    """A failed check and its finding."""


def examine(devices: str, terminal: Terminal) -> bool:
    """Runs every check and prints the findings.

    Args:
        devices: as in `fit`.
        terminal: for the table.

    Returns:
        Whether all checks passed.

    Raises:
        BadUsage: if `devices` is invalid.
    """
    runtime.check(devices, "float32", "auto")
    begun = time.monotonic()
    rows = []
    with tempfile.TemporaryDirectory(prefix="engine-doctor-") as name:
        for what, check in _checks(Path(name), devices):
            terminal.say(f"{what} ...")
            outcome, said = _outcome(check)
            rows.append([what, outcome, said])
    terminal.table("engine doctor", ["", "outcome", "found"], rows)
    failed = [what for what, outcome, _ in rows if outcome != "ok"]
    verdict = f"failed: {', '.join(failed)}" if failed else "all checks passed"
    terminal.result(f"{verdict} ({time.monotonic() - begun:.0f} s)")
    return not failed


def _checks(folder: Path, devices: str) -> list[tuple[str, Callable[[], str]]]:
    def started() -> Runtime:
        return runtime.start(devices, "float32")

    cache = [root] if (root := default_root()) else []
    return [
        ("software", software),
        ("free disk", lambda: free_disk([Path.cwd(), *cache, folder])),
        ("damaged scans are refused", lambda: damaged_scans(folder)),
        ("a killed training resumes", lambda: killed_training(folder)),
        ("devices", lambda: computing(started())),
        ("a training step", lambda: step(started())),
        ("tiles without seams", lambda: seams(runtime.start_inference(devices))),
    ]


def _outcome(check: Callable[[], str]) -> tuple[str, str]:
    try:
        return "ok", check()
    except CheckFailed as found:
        return "FAILED", str(found)
    except Exception as error:  # a check that cannot run has failed, too
        first = (str(error).strip().splitlines() or [""])[0][:200]
        return "FAILED", f"{type(error).__name__}: {first}"


def software() -> str:
    """Versions of the software that determines the bits of a result."""
    names = ("respr-engine", "tensorflow", "keras", "numpy", "nibabel")
    found = ", ".join(f"{name} {version(name)}" for name in names)
    return f"Python {platform.python_version()}, {found}"


def free_disk(places: list[Path]) -> str:
    """Free space in the folders of runs, the cache and temporary files.

    Raises:
        CheckFailed: if one has less than 2 GiB, or is not writable.
    """
    said, failed = [], False
    for place in places:
        there = next(p for p in (place, *place.absolute().parents) if p.exists())
        free_gib = shutil.disk_usage(there).free / 2**30
        writable = os.access(there, os.W_OK)
        failed |= free_gib < _LEAST_FREE_GIB or not writable
        said.append(f"{there} {free_gib:.1f} GiB" + ("" if writable else ", not writable"))
    if failed:
        raise CheckFailed("; ".join(said))
    return "; ".join(said)


def damaged_scans(folder: Path) -> str:
    """Flips bits of a scan and cuts it short; each damaged file must be refused or read correctly.

    Raises:
        CheckFailed: if other voxels are read without an error.
    """
    hu, spacing_mm = abdomen((6, 32, 32), rng=random_draws.rng(0, "phantom", 0))
    path = folder / "scan.nii.gz"
    nifti.write_hu(path, hu, spacing_mm)
    whole, rng, refused = path.read_bytes(), random_draws.rng(0, "damage"), 0
    for number in range(_DAMAGES):
        at = int(rng.integers(len(whole)))
        damaged = bytearray(whole if number % 4 else whole[:at])
        if number % 4:
            damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read = nifti.open_scan(path).read_hu()
        except BadInput:
            refused += 1
            continue
        if not np.array_equal(read, hu):
            raise CheckFailed(
                f"byte {at:,} was damaged, and other voxels were read without an error"
            )
    return f"{refused} of {_DAMAGES} refused, the others read correctly"


def killed_training(folder: Path) -> str:
    """Kills and resumes a training; it must end with the bits of an uninterrupted one.

    Raises:
        CheckFailed: if it does not.
    """
    data = folder / "phantoms"
    write_phantoms(data, 2, (10, 32, 32), seed=0)
    whole, killed = Run(folder / "whole"), Run(folder / "killed")
    processes = [_training(data, run) for run in (whole, killed)]
    deadline = time.monotonic() + _PATIENCE_S
    while not checkpoint.steps(killed.checkpoints) and processes[1].poll() is None:
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)
    processes[1].kill()
    _finished(processes[0])
    processes[1].communicate()
    reached = max(checkpoint.steps(killed.checkpoints), default=0)
    _finished(_training(data, killed))
    prints = [checkpoint.fingerprint(run.checkpoint("last")) for run in (whole, killed)]
    if prints[0] != prints[1]:
        raise CheckFailed(f"killed after step {reached}, it ended with other weights")
    steps = max(checkpoint.steps(whole.checkpoints))
    return f"killed after step {reached} of {steps}, ended with the same bits"


def _training(data: Path, run: Run) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "engine", "fit", "respr_unet3d", *_TINY, "-q"]
    command += ["--devices", "cpu", "--data", str(data), "--run", str(run.folder)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=pipe, text=True)


def _finished(process: subprocess.Popen[str]) -> None:
    try:
        _, said = process.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise CheckFailed(f"a tiny training took more than {_PATIENCE_S} s") from error
    if process.returncode:
        last = (said.strip().splitlines() or ["no message"])[-1]
        raise CheckFailed(f"a tiny training ended with {process.returncode}: {last}")


def computing(started: Runtime) -> str:
    """The devices and settings of TensorFlow."""
    about = started.about
    onednn = "on" if about["onednn"] != "0" else "off: a CPU trains several times slower"
    devices = ", ".join(about["devices"])
    return f"{devices}; {about['threads']} threads; oneDNN {onednn}; XLA {about['xla']}"


def step(started: Runtime) -> str:
    """Compares the losses of three small steps in float32 with stored ones.

    Raises:
        CheckFailed: if a loss differs by more than 0.5 %.
    """
    found = losses(started)
    apart = max(abs(a / b - 1) for a, b in zip(found, LOSSES, strict=True))
    said = f"losses differ by {apart:.1e} (relative) from the stored ones"
    if not apart <= _LOSS_TOLERANCE:
        raise CheckFailed(f"{said}: {', '.join(f'{loss:.6f}' for loss in found)}")
    return said


def losses(started: Runtime) -> list[float]:
    """The losses of three steps of a small ResPr-UNet on a phantom."""
    from engine.training.batches import feed
    from engine.training.state import TrainingState

    recipe = override(load_recipe(find_recipe("respr_unet3d")), _SMALL)
    hu, spacing_mm = abdomen((12, 48, 48), rng=random_draws.rng(0, "phantom", 0))
    volume = Volume(hu, spacing_mm, "phantom", "")
    examples = Examples([volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
    training, rate = TrainingState(recipe, started), np.float32(1e-3)
    with feed(examples, recipe.batch, started.strategy) as fed:
        return [float(training.step(batch, rate)[0]) for batch in fed.batches(0, len(LOSSES))]


def seams(started: Runtime) -> str:
    """Compares a network's estimate in tiles with its estimate in one piece.

    Raises:
        CheckFailed: if they differ by more than 0.01 HU.
    """
    from engine.inference.predictor import Predictor
    from engine.inference.tiling import blocks_of, plan

    recipe = override(load_recipe(find_recipe("unet3d")), ("network.width=4",))
    with started.strategy.scope():
        estimator = Predictor(recipe.network.build(precision="float32", seed=0))
    shape = (19, 45, 53)
    noisy = blocks_of(random_draws.rng(0, "seams").random(shape, np.float32))
    whole, tiled = (
        estimator.volume(plan(shape, recipe.network, tile), noisy, None)
        for tile in (shape, (8, 16, 24))
    )
    seam_hu = float(np.abs(recipe.window.hu(whole) - recipe.window.hu(tiled)).max())
    said = f"tiled and untiled differ by {seam_hu:.1e} HU"
    if not seam_hu <= _SEAM_HU:
        raise CheckFailed(said)
    return said
