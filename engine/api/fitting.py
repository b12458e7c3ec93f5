"""Fitting, as `engine fit` does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.checkpoints import checkpoint
from engine.plots import Figure
from engine.recipe.recipe import Recipe
from engine.runs.metrics_file import metrics_rows
from engine.runs.run import Run
from engine.terminal import Terminal
from engine.training.fit import fit as train
from engine.training.fit_request import FitRequest
from engine.training.observation import Observation
from engine.training.signals import interruptible
from volumes.nifti.read_options import ReadOptions


@dataclass(frozen=True)
class FitResult:
    """A training that is done.

    Attributes:
        run: its folder, for `engine.load` and the commands.
        step: number of steps that were trained.
        best_step: step of the best validation.
        scores: of the last validation: `psnr_db`, `ssim`, `relative_l2_percent`, `rmse_hu`, ...
        history: the rows of metrics.jsonl: a dictionary for each step (`loss`, `learning_rate`,
            `seconds`, ...), and one for each validated method (`method`, `mean`, ...). All have a
            `step`. `pandas.DataFrame(history)` makes a table of them.
    """

    run: Path
    step: int
    best_step: int | None
    scores: dict[str, float]
    history: list[dict[str, Any]] = field(repr=False)

    @classmethod
    def of(cls, run: Run) -> FitResult:
        """The result of the run in a folder."""
        done = checkpoint.verified(run.checkpoint("last"))
        history = metrics_rows(run)
        last = [row["mean"] for row in history if row.get("method") == "network"]
        return cls(run.folder, done.step, done.best_step, last[-1] if last else {}, history)

    @property
    def figure(self) -> Figure:
        """The panel of the last validation: clean, noisy, prior, estimate, residual."""
        return Figure(Run(self.run).preview.read_bytes())


def fit(
    recipe: str | Path | Recipe | None = None,
    overrides: Sequence[str] = (),
    *,
    data: str | Path,
    run: str | Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    start: str | Path | None = None,
    start_checkpoint: str | None = None,
    fresh: bool = False,
    accept_changes: bool = False,
    skip_bad: bool = False,
    histograms: int | None = None,
    profile: tuple[int, int] | None = None,
    devices: str = "auto",
    precision: str = "auto",
    xla: str = "auto",
    assume_hu: bool = False,
    run_code: bool = False,
    quiet: bool = False,
) -> FitResult:
    """Trains a recipe, or resumes the training in its run folder.

    Ctrl-C, in a notebook the button "interrupt", ends the training after its step and saves a
    checkpoint. The same call then resumes it. A second Ctrl-C ends it at once. In a thread that is
    not the main one, signals are left to the program around.

    Args:
        recipe: name of a recipe that ships, path of a recipe file, folder of a run to resume, or an
            `engine.Recipe`. None is the recipe of the run in `run`, else respr_unet3d. The run
            folder of a Recipe keeps a recipe.py that defines it.
        overrides: fields of the recipe to replace, such as "crop.shape=16,64,64".
        data: folder of the cases, or a file of pairs.
        run: run folder; resumed if it holds a run of this recipe. None is runs/<recipe's name>; a
            Recipe has no name.
        steps: total steps, including finished ones.
        seed: of weights, crops and noise.
        start: run whose weights a new run starts from (--from).
        start_checkpoint: of that run: "best", "last" or a step (--from-checkpoint).
        fresh: start from step 0; an existing run is moved aside.
        accept_changes: resume with changed values or cases.
        skip_bad: leave out scans that cannot be used.
        histograms: show weights and gradients in TensorBoard, every so many steps.
        profile: first and last step to profile, for TensorBoard.
        devices: auto, cpu, gpu, gpu:0,1. TensorFlow takes them once in a process.
        precision: auto, float32, bfloat16 or float16.
        xla: auto, on or off.
        assume_hu: accept values that do not look like HU.
        run_code: run the Python files that the named runs keep, if they define parts of these runs.
        quiet: show only warnings.

    Raises:
        Refusal: as `engine fit`, in the same words. `engine.errors` lists the kinds; Interrupted
            after Ctrl-C.

    Example:
        >>> import engine
        >>> tiny = ["crop.shape=8,16,16", "network.width=2", "batch=1", "split.validation=1",
        ...         "split.test=1"]
        >>> given = {"data": "phantoms", "run": "runs/new", "quiet": True}
        >>> result = engine.fit("unet3d", tiny, steps=2, **given)
        >>> result.step, [row["step"] for row in result.history if "loss" in row]
        (2, [1, 2])
        >>> sorted(result.scores)[:3]
        ['mse', 'psnr_db', 'relative_l2_percent']
        >>> engine.fit("unet3d", tiny, steps=3, **given).step
        3
    """
    given = {
        name: value
        for name, value in {
            "data": data, "run": run, "steps": steps, "seed": seed, "start": start,
            "start_checkpoint": start_checkpoint, "fresh": fresh,
            "accept_changes": accept_changes, "skip_bad": skip_bad, "devices": devices,
            "precision": precision, "xla": xla,
        }.items()
        if value not in (None, False, "auto")
    }  # fmt: skip
    named = recipe if isinstance(recipe, Recipe) or recipe is None else str(recipe)
    title = "Recipe(...)" if isinstance(named, Recipe) else named or ""
    words = [f"{name}={given[name]}" for name in ("steps", "seed") if name in given]
    request = FitRequest(
        recipe=named, overrides=(*overrides, *words), data=Path(data), run=_path(run),
        start=_path(start), start_checkpoint=start_checkpoint, fresh=fresh,
        accept_changes=accept_changes, skip_bad=skip_bad, devices=devices, precision=precision,
        xla=xla, run_code=run_code, reading=ReadOptions(hu=assume_hu),
        observation=Observation(histograms, profile),
        command=("engine.fit", title, *overrides, *(f"{name}={given[name]}" for name in given)),
    )  # fmt: skip
    with interruptible(exits=False) as stop:
        trained = train(request, Terminal(quiet=quiet, results=False), stop)
    assert trained is not None  # only a dry run has none
    return FitResult.of(trained)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
