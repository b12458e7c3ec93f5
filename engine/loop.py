"""The loop: decides when to learn, validate, save and stop."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from engine import checkpoint
from engine.checkpoint import Progress
from engine.estimate import Estimator, photons_told
from engine.evaluate import Validation, as_rows, mean
from engine.feed import Feed, feed
from engine.interrupt import Stop
from engine.journal import Bar, Metrics, Terminal
from engine.optimizer import Adam
from engine.origin import Origin
from engine.preview import panel
from engine.prior import opened
from engine.recipe import Recipe
from engine.refusals import Interrupted, Mismatch, NumericalFailure
from engine.run import Run
from engine.runtime import Runtime
from engine.step import Batch, TrainingStep
from engine.tensorboard import Events
from volumes.examples import Examples

_BAD_STEPS = 3
_BAD_SCALED_STEPS = 50  # halving the loss scale takes a few steps to find one that fits
_SCALARS_EVERY = 10


class Training:
    """A network, its optimizer, and every variable of both by name."""

    def __init__(self, recipe: Recipe, runtime: Runtime) -> None:
        with runtime.strategy.scope():
            source = opened(recipe.prior.of) if recipe.prior else None
            self.model = recipe.network.build(precision=runtime.precision, seed=recipe.seed)
            learned = {v.path: v.value for v in self.model.trainable_variables}
            scaled = runtime.precision == "float16"
            self.adam = Adam(learned, scaled=scaled, clip_norm=recipe.clip_norm)
        self.bad_steps = _BAD_SCALED_STEPS if scaled else _BAD_STEPS
        self.state = {f"model/{v.path}": v.value for v in self.model.variables} | self.adam.state
        # Shared batch statistics are summed over replicas, which the compiled part cannot do.
        shared = runtime.replicas > 1 and bool(self.model.non_trainable_variables)
        self.step = TrainingStep(
            self.model, recipe.window, recipe.noise, source, recipe.loss, recipe.batch, self.adam,
            runtime.strategy, xla=runtime.xla and not shared,
        )  # fmt: skip

    def arrays(self) -> checkpoint.Arrays:
        """A copy of every variable."""
        return {name: np.array(variable.numpy()) for name, variable in self.state.items()}

    def assign(self, arrays: checkpoint.Arrays) -> None:
        """Sets every variable; names and shapes have been compared."""
        for name, variable in self.state.items():
            variable.assign(arrays[name])


class _Learned(NamedTuple):
    """A step whose loss may still be on its way from the device."""

    step: int
    loss: Any
    finite: Any
    rate: float
    seconds: float
    waited_s: float


class _Clock:
    """Time between the ends of steps, and how much of it the feed kept the step waiting."""

    def __init__(self, fed: Feed) -> None:
        self._fed = fed
        self.restart()

    def restart(self) -> None:
        self._begun, self._fed.waited_s = time.perf_counter(), 0.0

    def lap(self) -> tuple[float, float]:
        seconds, waited_s = time.perf_counter() - self._begun, self._fed.waited_s
        self.restart()
        return seconds, waited_s


class Loop:
    """One process's part of a run: from the step it finds to the step it is asked for."""

    def __init__(
        self, run: Run, recipe: Recipe, runtime: Runtime, examples: Examples,
        validation: Validation, terminal: Terminal,
    ) -> None:  # fmt: skip
        self.run, self.recipe, self.runtime, self.examples = run, recipe, runtime, examples
        self.validation, self.terminal = validation, terminal
        self.training = Training(recipe, runtime)
        self.estimator = Estimator(self.training.model, photons_told(recipe.network, recipe.noise))
        self.progress = Progress()
        self._bad = 0
        self._origin: Origin | None = None

    def restore(self, origin: Origin | None = None) -> None:
        """Takes up the newest checkpoint that verifies, or else the weights of the origin.

        Raises:
            Mismatch: where the run's checkpoints are all damaged, or one is of another network.
        """
        self._origin = origin
        checkpoint.sweep(self.run.checkpoints)
        found = checkpoint.newest(self.run.checkpoints, self.terminal.warn)
        if found is None:
            if origin is not None:
                self._start_from(origin)
            return
        path = self.run.checkpoints / f"step-{found.step:08d}"
        arrays = checkpoint.load(path, set(self.training.state))
        for name, variable in self.training.state.items():
            if arrays[name].shape != tuple(variable.shape):
                remedy = "Use the recipe and the version that wrote it"
                raise Mismatch(path, f"holds {name} of another shape", remedy)
        self.training.assign(arrays)
        self.progress = found
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
        self.training.assign(own | arrays)
        self.terminal.say(f"Starting from the weights of {origin.folder}, step {origin.step:,}")

    def go(self, stop: Stop) -> Progress:
        """Trains to the recipe's last step.

        The order within a step is fixed, and what resuming relies on: learn, note, validate, save,
        only then heed a request to stop.

        Raises:
            Interrupted: where `stop` was asked for; a checkpoint has been saved.
            NumericalFailure: where gradients stay non-finite; the last checkpoint is from before.
        """
        recipe, first = self.recipe, self.progress.step
        # A run that was never saved starts anew, its rows of step 0 included.
        metrics = Metrics(self.run.metrics, first or -1)
        events = Events(self.run.tensorboard, first)
        what = f"{self.run.folder.name} [{self.runtime.precision}]"
        try:
            if first == 0:
                self._note_baselines(metrics)
            if first == 0 and self._origin is not None:
                # Saved before it learns: from here on the run needs its origin no more, and the
                # best of it is never worse than what it was given.
                self._validate(metrics, events)
                self._save(metrics)
            with (
                feed(self.examples, recipe.batch, self.runtime.strategy) as fed,
                self.terminal.progress(what, recipe.steps, first) as bar,
            ):
                clock = _Clock(fed)
                learned: _Learned | None = None
                for batch in fed.batches(first, recipe.steps):
                    before, learned = learned, self._learn(batch, clock)
                    # The loss of the step before is read while the device works on this one.
                    self._note(before, metrics, events, bar)
                    validate = self._due(recipe.validate_every)
                    asked = stop.asked  # once a step: what stops it has also saved it
                    if validate or self._due(recipe.checkpoint_every) or asked:
                        self._note(learned, metrics, events, bar)
                        learned = None
                        if validate:
                            self._validate(metrics, events)
                        self._save(metrics)
                        clock.restart()
                    if asked and self.progress.step < recipe.steps:
                        cause = f"stopped at step {self.progress.step:,} by {asked}"
                        remedy = "The same command goes on from there"
                        raise Interrupted(self.run.folder, cause, remedy)
        finally:
            metrics.close()
            events.close()
        return self.progress

    def _learn(self, batch: Batch, clock: _Clock) -> _Learned:
        step = self.progress.step
        rate = self.recipe.learning_rate(step, self.recipe.steps)
        loss, finite = self.training.step(batch, tf.constant(rate, tf.float32))
        self.progress = replace(self.progress, step=step + 1)
        return _Learned(step + 1, loss, finite, rate, *clock.lap())

    def _note(self, learned: _Learned | None, metrics: Metrics, events: Events, bar: Bar) -> None:
        if learned is None:
            return
        loss, finite = float(learned.loss), bool(learned.finite)
        row = {
            "step": learned.step,
            "loss": loss,
            "learning_rate": learned.rate,
            "seconds": round(learned.seconds, 4),
            "crops_per_second": round(self.recipe.batch / learned.seconds, 3),
            "input_wait_fraction": round(learned.waited_s / learned.seconds, 4),
        }
        metrics.row(**row)
        self._watch(learned, finite and math.isfinite(loss))
        if learned.step % _SCALARS_EVERY == 0:
            shown = ("loss", "learning_rate", "crops_per_second", "input_wait_fraction")
            events.scalars(learned.step, {f"training/{name}": row[name] for name in shown})
        note = (
            f"loss {loss:.2e}  {row['crops_per_second']:.2g} crops/s  "
            f"input wait {row['input_wait_fraction']:.0%}"
        )
        if self.progress.best_mse:
            note += f"  best {-10 * math.log10(self.progress.best_mse):.2f} dB"
        bar.at(learned.step, note)

    def _due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.recipe.steps

    def _watch(self, learned: _Learned, finite: bool) -> None:
        """Counts steps whose gradients were not finite; nothing was learned from them."""
        self._bad = 0 if finite else self._bad + 1
        if self._bad < self.training.bad_steps:
            return
        first = (learned.step - 1) * self.recipe.batch
        examples = [self.examples[i] for i in range(first, first + self.recipe.batch)]
        crops = ", ".join(f"{example.case} at {example.box.start}" for example in examples)
        cause = (
            f"{self._bad} steps in a row without finite gradients, the last one step "
            f"{learned.step:,} on {crops}, learning rate {learned.rate:g}"
        )
        remedy = "Lower the learning rate, set clip_norm, or use --precision float32"
        raise NumericalFailure(self.run.folder, cause, remedy)

    def _note_baselines(self, metrics: Metrics) -> None:
        for method, rows in self.validation.baselines().items():
            metrics.row(step=0, method=method, validation=as_rows(rows), mean=mean(rows))

    def _validate(self, metrics: Metrics, events: Events) -> None:
        rows, estimate = self.validation.scores(self.estimator)
        means = mean(rows)
        step = self.progress.step
        metrics.row(step=step, method="network", validation=as_rows(rows), mean=means)
        events.scalars(step, {f"validation/{name}": value for name, value in means.items()})
        if not math.isfinite(means["mse"]):
            cause = f"validation at step {step:,} is not finite"
            remedy = "Lower the learning rate, or use --precision float32"
            raise NumericalFailure(self.run.folder, cause, remedy)
        if self.progress.best_mse is None or means["mse"] < self.progress.best_mse:
            self.progress = replace(self.progress, best_step=step, best_mse=means["mse"])
        self._draw(estimate, step)
        events.picture(step, "validation", self.run.preview.read_bytes())
        window = self.recipe.window
        self.terminal.say(
            f"step {step:,}: validation PSNR {means['psnr_db']:.2f} dB, SSIM {means['ssim']:.4f}, "
            f"relative L2 {means['relative_l2_percent']:.2f} %, RMSE {means['rmse_hu']:.1f} "
            f"{window.unit_name} (data range [{window.low_hu:g}, {window.high_hu:g}])"
        )

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

    def _save(self, metrics: Metrics) -> None:
        metrics.sync()
        checkpoint.save(self.run.checkpoints, self.training.arrays(), self.progress)
