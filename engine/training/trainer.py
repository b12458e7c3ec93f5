"""The loop: decides when to learn, validate, save and stop."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.errors import DiskFull, Interrupted, Mismatch
from engine.inference.predictor import Predictor, photons_told
from engine.plots import panel
from engine.recipe.recipe import Recipe
from engine.runs.initial_weights import Origin
from engine.runs.metrics_file import Metrics
from engine.runs.run import Run
from engine.runtime import Runtime
from engine.terminal import Bar, Terminal
from engine.training import out_of_memory
from engine.training.batches import Clock, feed
from engine.training.health import Watch
from engine.training.signals import Stop
from engine.training.state import Training
from engine.training.step import Batch, Learned
from engine.training.tensorboard import Events
from engine.training.validation import Scored, Validation
from volumes.sampling.examples import Examples
from volumes.window import Window

_PATIENCE_S = 60.0
_SCALARS_EVERY = 10
_UNSAVED = 3


class _Done(NamedTuple):
    """A step that was done."""

    step: int
    learned: Learned
    rate: float
    seconds: float
    waited_s: float


class Loop:
    """One process's part of a run: from the step it finds to the step it is asked for."""

    def __init__(
        self, run: Run, recipe: Recipe, runtime: Runtime, examples: Examples,
        validation: Validation, terminal: Terminal,
    ) -> None:  # fmt: skip
        self.run, self.recipe, self.runtime, self.examples = run, recipe, runtime, examples
        self.validation, self.terminal = validation, terminal
        self.training = Training(recipe, runtime)
        self.estimator = Predictor(self.training.scored, photons_told(recipe.network, recipe.noise))
        self.progress = Progress(recipe=run.recipes[-1] if run.recipes else None)
        self.watch = Watch(run.folder, recipe, runtime.precision, examples, terminal.warn)
        self._rescored = self._told_of_waiting = False
        self._unsaved = 0
        self._origin: Origin | None = None

    def restore(self, origin: Origin | None = None) -> None:
        """Takes up the newest checkpoint that verifies, or else the weights of the origin.

        Raises:
            Mismatch: where the run's checkpoints are all damaged, or one is of another network.
        """
        self._origin = origin
        found = self.run.newest(self.terminal.warn)
        if found is None:
            if origin is not None:
                self._start_from(origin)
            return
        path = checkpoint.place(self.run.checkpoints, found.step)
        if found.recipe is not None and self.run.recipes and found.recipe not in self.run.recipes:
            remedy = "Take it away, or start anew with --fresh"
            raise Mismatch(path, "is of another run: its recipe is none of this one's", remedy)
        self.training.assign(checkpoint.load(path, self.training.headers()))
        self.progress = replace(found, recipe=self.progress.recipe)
        self.run.note_saved()
        # Scores from before such a change compare with none from after it.
        self._rescored = any(
            change["rescored"] and found.step <= change["from_step"]
            for change in self.run.changes()
        )
        if self._rescored:
            self.progress = replace(self.progress, best_step=None, best_mse=None)
        self.terminal.say(f"Resuming {self.run.folder} from step {found.step:,}")

    def _start_from(self, origin: Origin) -> None:
        """Takes up the weights of another run; the optimizer stays as it was made."""
        arrays, remedy = origin.weights(), "Give the recipe the same network fields"
        own = self.training.arrays()
        names = [name for name in own if name.startswith("model/")]
        for name in names:
            if name not in arrays or arrays[name].shape != own[name].shape:
                cause = f"holds no variable {name} of shape {own[name].shape}"
                raise Mismatch(origin.path, cause, remedy)
        foreign = sorted(set(arrays) - set(names))
        if foreign:
            raise Mismatch(origin.path, f"holds {foreign[0]}, which the network lacks", remedy)
        averaged = {f"average/{name.removeprefix('model/')}": arrays[name] for name in names}
        averaged = {name: array for name, array in averaged.items() if name in own}
        self.training.assign(own | arrays | averaged)
        self.terminal.say(f"Starting from the weights of {origin.folder}, step {origin.step:,}")

    def go(self, stop: Stop) -> Progress:
        """Trains to the recipe's last step.

        The order within a step is fixed, and what resuming relies on: learn, note, validate, save,
        only then heed a request to stop.

        Raises:
            Interrupted: where `stop` was asked for; a checkpoint has been saved.
            NumericalFailure: where gradients stay non-finite; the last checkpoint is from before.
            CannotWrite: where a checkpoint cannot be saved; the one before is as it was.
        """
        recipe, first = self.recipe, self.progress.step
        # A run that was never saved starts anew, its rows of step 0 included.
        metrics = Metrics(self.run.metrics, first or -1, self.terminal.warn)
        events = Events(self.run.tensorboard, first, self.terminal.warn)
        what = f"{self.run.folder.name} [{self.runtime.precision}]"
        try:
            if first == 0 or self._rescored:
                self._note_baselines(metrics)
            if first == 0 and self._origin is not None:
                # Saved before it learns: from here on the run needs its origin no more, and the
                # best of it is never worse than what it was given.
                self._validate(metrics, events)
                self._save(metrics, last=True)  # what it starts from may be gone later
            with (
                out_of_memory.told(recipe, self.run.folder, self.runtime.replicas),
                feed(self.examples, recipe.batch, self.runtime.strategy) as fed,
                self.terminal.progress(what, recipe.steps, first) as bar,
            ):
                clock = Clock(fed)
                done: _Done | None = None
                for batch in fed.batches(first, recipe.steps, partial(self._wait, stop)):
                    before, done = done, self._learn(batch, clock)
                    # The loss of the step before is read while the device works on this one.
                    self._note(before, metrics, events, bar)
                    validate = self._due(recipe.validate_every)
                    asked = stop.asked  # once a step: what stops it has also saved it
                    if validate or self._due(recipe.checkpoint_every) or asked:
                        self._note(done, metrics, events, bar)
                        done = None
                        if validate:
                            self._validate(metrics, events)
                        self._save(metrics, last=bool(asked))
                        clock.restart()
                    if asked and self.progress.step < recipe.steps:
                        raise self._interrupted(asked)
                if self.progress.step < recipe.steps:  # asked to stop while it waited for a batch
                    self._note(done, metrics, events, bar)
                    if self.progress.step > first:
                        self._save(metrics, last=True)
                    raise self._interrupted(stop.asked)
        finally:
            metrics.close()
            events.close()
        return self.progress

    def _wait(self, stop: Stop, seconds: float, case: str) -> bool:
        """Whether to stop waiting for a batch, because somebody asked the run to stop."""
        if seconds < _PATIENCE_S:
            self._told_of_waiting = False
        elif not self._told_of_waiting:
            self._told_of_waiting = True
            self.terminal.warn(
                f"{self.run.folder}: no crop for {seconds:.0f} s at step {self.progress.step:,}; "
                f"waiting for {case}"
            )
        return stop.asked is not None

    def _interrupted(self, asked: str | None) -> Interrupted:
        cause = f"stopped at step {self.progress.step:,} by {asked}"
        return Interrupted(self.run.folder, cause, "The same command goes on from there")

    def _learn(self, batch: Batch, clock: Clock) -> _Done:
        step = self.progress.step
        rate = self.recipe.learning_rate(step, self.recipe.steps)
        learned = self.training.step(batch, tf.constant(rate, tf.float32))
        self.progress = replace(self.progress, step=step + 1)
        return _Done(step + 1, learned, rate, *clock.lap())

    def _note(self, done: _Done | None, metrics: Metrics, events: Events, bar: Bar) -> None:
        if done is None:
            return
        loss, norm = float(done.learned.loss), float(done.learned.norm)
        row = {
            "step": done.step,
            "loss": loss,
            "gradient_norm": norm,
            "learning_rate": done.rate,
            "seconds": round(done.seconds, 4),
            "crops_per_second": round(self.recipe.batch / done.seconds, 3),
            "input_wait_fraction": round(done.waited_s / done.seconds, 4),
        }
        metrics.row(**row)
        self.watch.step(done.step, done.rate, loss, bool(done.learned.finite), norm)
        if done.step % _SCALARS_EVERY == 0:
            hidden = ("step", "seconds")
            shown = {f"training/{name}": row[name] for name in row if name not in hidden}
            events.scalars(done.step, shown)
        note = (
            f"loss {loss:.2e}  {row['crops_per_second']:.2g} crops/s  "
            f"input wait {row['input_wait_fraction']:.0%}"
        )
        if self.progress.best_mse:
            note += f"  best {-10 * math.log10(self.progress.best_mse):.2f} dB"
        bar.at(done.step, note)

    def _due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.recipe.steps

    def _note_baselines(self, metrics: Metrics) -> None:
        for method, scored in self.validation.baselines().items():
            for row in scored.rows():
                metrics.row(step=self.progress.step, method=method, **row)

    def _validate(self, metrics: Metrics, events: Events) -> None:
        scored, estimate = self.validation.scores(self.estimator)
        means = scored.mean
        step = self.progress.step
        for row in scored.rows():
            metrics.row(step=step, method="network", **row)
        events.scalars(step, {f"validation/{name}": value for name, value in means.items()})
        for level, at in scored.levels.items() if len(scored.cases) > 1 else ():
            events.scalars(step, {f"validation at {level}/{n}": value for n, value in at.items()})
        best, shown = self.progress.best_mse, self.validation.pairs[0]
        self.watch.validated(step, means["mse"], best, shown, estimate)
        if self.progress.best_mse is None or means["mse"] < self.progress.best_mse:
            self.progress = replace(self.progress, best_step=step, best_mse=means["mse"])
        try:
            self._draw(estimate, step)
            events.picture(step, "validation", self.run.preview.read_bytes())
        except DiskFull as refusal:  # a picture is no reason to end
            self.terminal.warn(str(refusal))
        self.terminal.say(f"step {step:,}: validation {_in_words(scored, self.recipe.window)}")

    def _draw(self, estimate: Any, step: int) -> None:
        shown, hu = self.validation.pairs[0], self.recipe.window.hu
        middle = shown.clean.shape[0] // 2
        images = {"clean": shown.clean, "noisy": shown.noisy}
        if shown.prior is not None:
            images["prior"] = shown.prior
        images["estimate"] = estimate
        slices = {name: hu(image[middle]) for name, image in images.items()}
        title = f"{shown.case}, slice {middle}, step {step:,}"
        panel(
            self.run.preview,
            slices,
            slices["noisy"] - slices["estimate"],
            title,
            self.recipe.window,
        )

    def _save(self, metrics: Metrics, *, last: bool) -> None:
        """Saves; on a full disk it is tried again when the next save is due.

        Raises:
            CannotWrite: where that fails for another reason, for the third time in a row, or there
                is no next time.
            NumericalFailure: where a variable is not finite.
        """
        arrays = self.training.arrays()
        self.watch.saved(self.progress.step, arrays)
        try:
            metrics.sync()
            checkpoint.save(self.run.checkpoints, arrays, self.progress)
            self.run.note_saved()
        except DiskFull as refusal:
            self._unsaved += 1
            if last or self._unsaved == _UNSAVED or self.progress.step == self.recipe.steps:
                raise
            again = f"tried again when the next is due ({self._unsaved} of {_UNSAVED} failures)"
            self.terminal.warn(f"{refusal.path}: {refusal.cause}; {again}")
        else:
            self._unsaved = 0


def _in_words(scored: Scored, window: Window) -> str:
    """The mean scores, for the terminal."""
    means, psnr = scored.mean, "PSNR {psnr_db:.2f} dB"
    if len(scored.cases) > 1:
        at = ", ".join(f"{at['psnr_db']:.2f} ({level})" for level, at in scored.levels.items())
        psnr = f"PSNR {at}, mean {{psnr_db:.2f}} dB"
    found = psnr + ", SSIM {ssim:.4f}, relative L2 {relative_l2_percent:.2f} %, RMSE {rmse_hu:.1f} "
    data_range = f"(data range [{window.low_hu:g}, {window.high_hu:g}])"
    return f"{found.format(**means)}{window.unit_name} {data_range}"
