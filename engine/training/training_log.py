"""The log of a training: metrics.jsonl, TensorBoard, preview, progress bar and terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy.typing as npt

from engine.errors import DiskFull
from engine.plots import panel
from engine.recipe.metric import Metric
from engine.recipe.recipe import Recipe
from engine.runs.metrics_file import MetricsFile
from engine.runs.run import Run
from engine.scoring.case_images import Pair
from engine.terminal import Bar, Terminal
from engine.training.step import Learned
from engine.training.tensorboard import Events
from engine.training.validation import Scored
from volumes.window import Window

_SCALARS_EVERY = 10


class StepDone(NamedTuple):
    """A finished step. The device may still be computing its numbers."""

    step: int
    learned: Learned
    rate: float
    seconds: float
    waited_s: float


class TrainingLog:
    """The log of one training process."""

    def __init__(
        self, run: Run, recipe: Recipe, terminal: Terminal, first: int, *, unvalidated: bool = False
    ) -> None:
        """Opens the files to continue after step `first`, whose validation may still be due."""
        self._run, self._recipe, self._terminal = run, recipe, terminal
        # A run that was never saved starts anew: its rows of step 0 are removed, too.
        self._metrics = MetricsFile(
            run.metrics, first or -1, terminal.warn, unvalidated=unvalidated
        )
        self._events = Events(run.tensorboard, first or -1, terminal.warn, unvalidated=unvalidated)
        self._bar: Bar | None = None

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._metrics.close()
        self._events.close()

    @contextmanager
    def bar(self, title: str, first: int) -> Iterator[None]:
        """Shows the progress of the training while the block runs."""
        with self._terminal.progress(title, self._recipe.steps, first) as self._bar:
            yield
        self._bar = None

    def step(self, done: StepDone, best_mse: float | None) -> None:
        """Logs a step: a row, the progress bar, and TensorBoard every tenth step."""
        row = {
            "step": done.step,
            "loss": float(done.learned.loss),
            "gradient_norm": float(done.learned.norm),
            "learning_rate": done.rate,
            "seconds": round(done.seconds, 4),
            "crops_per_second": round(self._recipe.examples_per_step / done.seconds, 3),
            "input_wait_fraction": round(done.waited_s / done.seconds, 4),
        }
        self._metrics.row(**row)
        if done.step % _SCALARS_EVERY == 0:
            hidden = ("step", "seconds")
            shown = {f"training/{name}": row[name] for name in row if name not in hidden}
            self._events.scalars(done.step, shown)
        note = (
            f"loss {row['loss']:.2e}  {row['crops_per_second']:.2g} crops/s  "
            f"input wait {row['input_wait_fraction']:.0%}"
        )
        if best_mse:
            note += f"  best {-10 * math.log10(best_mse):.2f} dB"
        if self._bar is not None:
            self._bar.at(done.step, note)

    def scores(self, step: int, method: str, scored: Scored) -> None:
        """Logs the scores of a method: a row per level, and one for their mean."""
        for row in scored.rows():
            self._metrics.row(step=step, method=method, **row)

    def validation(self, step: int, scored: Scored, shown: Pair, estimate: Any) -> None:
        """Logs a validation of the network: rows, TensorBoard, preview and terminal."""
        self.scores(step, "network", scored)
        means = {f"validation/{name}": value for name, value in scored.mean.items()}
        self._events.scalars(step, means)
        for level, at in scored.levels.items() if len(scored.cases) > 1 else ():
            self._events.scalars(step, {f"validation at {level}/{n}": v for n, v in at.items()})
        try:
            self._draw(step, shown, estimate)
            self._events.picture(step, "validation", self._run.preview.read_bytes())
        except DiskFull as refusal:  # a missing image does not end the training
            self._terminal.warn(str(refusal))
        words = _in_words(scored, self._recipe.window)
        if isinstance(metric := self._recipe.best_by, Metric):
            better = "larger" if metric.larger_is_better else "smaller"
            words += f", {metric.name} {scored.mean[metric.name]:.4g} ({better} is better)"
        self._terminal.say(f"step {step:,}: validation {words}")

    def histograms(self, step: int, values: dict[str, npt.NDArray[Any]]) -> None:
        """Logs distributions by tag, in TensorBoard alone."""
        self._events.histograms(step, values)

    def warn(self, text: str) -> None:
        """Warns of what concerns the run."""
        self._terminal.warn(f"{self._run.folder}: {text}")

    def sync(self) -> None:
        """Writes all rows to disk, so that they survive a crash.

        Raises:
            DiskFull: if the disk is full. The rows are kept in memory.
            CannotWrite: if writing fails for another reason.
        """
        self._metrics.sync()

    def _draw(self, step: int, shown: Pair, estimate: Any) -> None:
        window = self._recipe.window
        middle = shown.clean.shape[0] // 2
        images = {"clean": shown.clean, "noisy": shown.noisy}
        if shown.prior is not None:
            images["prior"] = shown.prior
        images["estimate"] = estimate
        slices = {name: window.hu(image[middle]) for name, image in images.items()}
        # Counted as in the viewer of a report.
        at = f"slice {shown.first + middle} (0 to {shown.depth - 1})"
        title = f"{shown.case}, {at}, step {step:,}"
        panel(self._run.preview, slices, slices["noisy"] - slices["estimate"], title, window)


def _in_words(scored: Scored, window: Window) -> str:
    """The mean scores as text for the terminal."""
    means, psnr = scored.mean, "PSNR {psnr_db:.2f} dB"
    if len(scored.cases) > 1:
        at = ", ".join(f"{at['psnr_db']:.2f} ({level})" for level, at in scored.levels.items())
        psnr = f"PSNR {at}, mean {{psnr_db:.2f}} dB"
    found = psnr + ", SSIM {ssim:.4f}, relative L2 {relative_l2_percent:.2f} %, RMSE {rmse_hu:.1f} "
    data_range = f"(data range [{window.low_hu:g}, {window.high_hu:g}])"
    return f"{found.format(**means)}{window.unit_name} {data_range}"
