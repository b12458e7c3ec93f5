"""The trainer: trains, validates, saves and stops, from the newest checkpoint to the last step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import tensorflow as tf

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.errors import Interrupted, Mismatch, NumericalFailure
from engine.inference.predictor import Predictor, photons_told
from engine.recipe.metric import decisive
from engine.recipe.recipe import Recipe
from engine.runs.initial_weights import InitialWeights
from engine.runs.record import RunRecord
from engine.runs.training_run import TrainingRun
from engine.runtime import Runtime
from engine.terminal import Terminal
from engine.training import out_of_memory
from engine.training.batches import Clock, feed
from engine.training.cluster import ALONE, Cluster
from engine.training.health import Health
from engine.training.observation import SCALARS, Observation
from engine.training.observer import Observer
from engine.training.saver import Saver
from engine.training.signals import Stop, Stopped
from engine.training.state import TrainingState
from engine.training.step import Batch
from engine.training.training_log import StepDone, TrainingLog
from engine.training.validation import Scored, Validation
from volumes.sampling.examples import Examples

_PATIENCE_S = 60.0


def _go_on() -> None:
    """Checks no request to stop."""


@dataclass(frozen=True)
class TrainingPlan:
    """The inputs of a trainer.

    Attributes:
        run: its run folder. The caller holds the lock.
        record: run.json when the run began or was resumed.
        recipe: what is trained.
        runtime: devices and precision.
        examples: of the training.
        validation: scores the network.
        terminal: shows messages and progress.
        on_device: whether the volumes are copied to the devices, which then cut the crops.
        observation: what TensorBoard shows beside the scalars.
        cluster: the processes that share the batches. This one is the chief.
    """

    run: TrainingRun
    record: RunRecord
    recipe: Recipe
    runtime: Runtime
    examples: Examples
    validation: Validation
    terminal: Terminal
    on_device: bool = False
    observation: Observation = SCALARS
    cluster: Cluster = ALONE


class Trainer:
    """Trains a run, from its newest checkpoint on.

    The order within a step is fixed. A resume relies on it:

    1. learn: the weights and the step count change.
    2. note: the row of the step is written.
    3. validate, if due: rows are written, and the best step is updated.
    4. save, if due: all earlier rows are synced first, so that no checkpoint is ahead of
       metrics.jsonl.
    5. stop, if requested. The request is read once a step: a training that stops has also saved.

    A request during a validation ends it: the checkpoint records that the validation is due, and
    it is the first act of the resumed training. Only that of the last step is completed.
    """

    def __init__(self, plan: TrainingPlan, start: InitialWeights | None = None) -> None:
        """Restores the newest intact checkpoint, else the initial weights.

        Args:
            plan: the inputs.
            start: initial weights of a new run, from another run.

        Raises:
            Mismatch: if all checkpoints of the run are damaged, or one is of another network.
        """
        self.plan, self.run, self.recipe = plan, plan.run, plan.recipe
        self.training = TrainingState(plan.recipe, plan.runtime)
        photons = photons_told(plan.recipe.network, plan.recipe.noise)
        self._predictor = Predictor(self.training.scored, photons)
        self._health = Health(
            plan.run.folder, plan.recipe, plan.runtime.precision, plan.examples, plan.terminal.warn
        )
        self._saver = Saver(plan.run, plan.record, plan.terminal.warn)
        self._wait = _Wait(plan)
        self._done: StepDone | None = None  # its numbers are read during the next step
        recipes = plan.record.recipes
        self.progress = Progress(recipe=recipes[-1] if recipes else None)
        self._rescore = False
        found = plan.run.newest(plan.terminal.warn, plan.record)
        if found is not None:
            self._resume(found)
        elif start is not None:
            self._start_from(start)
        self._from_other = start is not None and self.progress.step == 0

    # -- The phases of a training ------------------------------------------------------------------

    def train(self, stop: Stop) -> Progress:
        """Trains to the last step of the recipe. The class describes the order within a step.

        Raises:
            Interrupted: if a stop was requested. A checkpoint has been saved.
            NumericalFailure: if gradients stay non-finite. The last checkpoint is older.
            CannotWrite: if a checkpoint cannot be saved. The one before is unchanged.
        """
        first = self.progress.step
        due = self.progress.unvalidated
        with TrainingLog(
            self.run, self.recipe, self.plan.terminal, first, unvalidated=due
        ) as self._log:
            self._before_the_first_step()
            if self._finished:
                return self.progress
            self._tell_beginning()
            with self._observing() as self._observer, self._batches(stop) as batches:
                for batch in batches:
                    if self.progress.step == first:  # nothing has to be saved before
                        self.training.step.trace(batch, tf.constant(0.0))
                        stop.hold()
                    self._learn(batch)
                    validate = self._due(self.recipe.validate_every)
                    asked = stop.asked  # read once a step, so that saving and stopping agree
                    if validate or self._due(self.recipe.checkpoint_every) or asked:
                        self._note()
                        if validate and not self._validated(stop):
                            asked = stop.asked
                        self._save(last=bool(asked))
                        self._clock.restart()
                    if self._finished:
                        break
                    if asked:
                        raise self._interrupted(asked)
                if not self._finished:  # stop requested while waiting for a batch
                    self._note()
                    if self.progress.step > first:
                        self._save(last=True)
                    raise self._interrupted(stop.asked)
        return self.progress

    def _before_the_first_step(self) -> None:
        if self.progress.step == 0 or self._rescore:
            for method, scored in self.plan.validation.baselines().items():
                self._log.scores(self.progress.step, method, scored)
        if self.progress.unvalidated:
            self._validate()
            if self._finished:
                self._save(last=True)
        if self._from_other:
            # Saved before the first step: the run no longer needs the other one, and its best
            # checkpoint is never worse than its initial weights.
            self._validate()
            self._save(last=True)

    def _tell_beginning(self) -> None:
        step = self.progress.step
        saved = step in checkpoint.steps(self.run.checkpoints)
        self.plan.cluster.tell({"step": step, "saved": saved})

    def _learn(self, batch: Batch) -> None:
        step, before = self.progress.step, self._done
        self.plan.cluster.tell(step)
        rate = self.recipe.learning_rate(step, self.recipe.steps)
        with self._observer.around(step + 1, batch):
            learned = self.training.step(batch, tf.constant(rate, tf.float32))
        self.progress = replace(self.progress, step=step + 1)
        self._done = StepDone(step + 1, learned, rate, *self._clock.lap())
        if before is not None:  # while the device works on this step
            self._note_step(before)
        self._observer.after(step + 1, learned)

    def _note(self) -> None:
        """Writes the row of the last step, and waits for its numbers."""
        if self._done is not None:
            done, self._done = self._done, None
            self._note_step(done)

    def _note_step(self, done: StepDone) -> None:
        self._log.step(done, self.progress.best_mse)
        learned = done.learned
        self._health.step(
            done.step, done.rate, float(learned.loss), bool(learned.finite), float(learned.norm)
        )

    def _validated(self, stop: Stop) -> bool:
        """Validates. False if a stop was requested meanwhile, and there are steps left."""
        try:
            self._validate(_go_on if self._finished else stop.check)
        except Stopped:
            self.progress = replace(self.progress, unvalidated=True)
            return False
        return True

    def _validate(self, check_stop: Callable[[], None] = _go_on) -> None:
        scored, estimate = self.plan.validation.scores(self._predictor, check_stop)
        waited = self.progress.unimproved + 1 if self.recipe.patience else 0
        self.progress = replace(self.progress, unvalidated=False, unimproved=waited)
        step, mse, best = self.progress.step, scored.mean["mse"], self.progress.best_mse
        shown = self.plan.validation.pairs[0]
        self._health.validated(step, mse, best, shown, estimate)
        score = self._decisive(scored)
        if self._improves(mse, score):
            self.progress = replace(
                self.progress, best_step=step, best_mse=mse, best_score=score, unimproved=0
            )
        self._log.validation(step, scored, shown, estimate)
        if self._out_of_patience:
            self.plan.terminal.say(
                f"stopped at step {step:,}: {waited} validations in a row without a better score "
                f"than that of step {self.progress.best_step:,}"
            )

    def _decisive(self, scored: Scored) -> float | None:
        """The score by which the best checkpoint is chosen; None if that is the error.

        Raises:
            NumericalFailure: if it is not finite.
        """
        if self.recipe.best_by == "psnr":
            return None
        name, _ = decisive(self.recipe.best_by)
        score = scored.mean[name]
        if not math.isfinite(score):
            cause = f"best_by {name} is {score} at step {self.progress.step:,}"
            raise NumericalFailure(self.run.folder, cause, "Choose another best_by")
        return score

    def _improves(self, mse: float, score: float | None) -> bool:
        """Whether a validation is better than the best one before."""
        best = self.progress
        if best.best_mse is None or score is None or best.best_score is None:
            return best.best_mse is None or mse < best.best_mse
        larger = decisive(self.recipe.best_by)[1]
        return score > best.best_score if larger else score < best.best_score

    def _save(self, *, last: bool) -> None:
        """Saves a checkpoint. On a full disk the next save tries again, unless this is the last."""
        arrays = self.training.arrays()
        self._health.saved(self.progress.step, arrays)
        self._saver.save(arrays, self.progress, self._log, last=last or self._finished)

    def _interrupted(self, asked: str | None) -> Interrupted:
        cause = f"stopped at step {self.progress.step:,} by {asked}"
        return Interrupted(self.run.folder, cause, "Run the same command to resume")

    # -- State -------------------------------------------------------------------------------------

    @property
    def _finished(self) -> bool:
        return self.progress.step >= self.recipe.steps or self._out_of_patience

    @property
    def _out_of_patience(self) -> bool:
        return 0 < self.recipe.patience <= self.progress.unimproved

    def _due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.recipe.steps

    @contextmanager
    def _batches(self, stop: Stop) -> Iterator[Iterator[Batch]]:
        """The batches of the remaining steps. They end early if a stop is requested."""
        recipe, runtime, first = self.recipe, self.plan.runtime, self.progress.step
        title = f"{self.run.folder.name} [{runtime.precision}]"
        with (
            out_of_memory.told(recipe, self.run.folder, runtime.replicas),
            feed(
                self.plan.examples,
                recipe.examples_per_step,
                runtime.strategy,
                parts=recipe.accumulate,
                on_device=self.plan.on_device,
            ) as fed,
            self._log.bar(title, first),
        ):
            self._clock = Clock(fed)

            def waiting(seconds: float, case: str) -> bool:
                self._wait.note(seconds, case, self.progress.step)
                return stop.asked is not None

            yield fed.batches(first, recipe.steps, waiting)

    def _observing(self) -> Observer:
        asked, done, step = self.plan.observation, self.progress.step, self.training.step
        if asked.profile is not None and asked.profile[1] <= done:
            words = "{:,} to {:,} are done already".format(*asked.profile)
            self.plan.terminal.warn(f"{self.run.folder}: no profile: steps {words}")
        return Observer(asked, step, self.run.tensorboard, self._log)

    def _resume(self, found: Progress) -> None:
        record, path = self.plan.record, checkpoint.place(self.run.checkpoints, found.step)
        if found.recipe is not None and record.recipes and found.recipe not in record.recipes:
            remedy = "Remove it, or start anew with --fresh"
            raise Mismatch(path, "is of another run, trained with another recipe", remedy)
        self.training.assign(checkpoint.load(path, self.training.headers()))
        self.progress = replace(found, recipe=self.progress.recipe)
        self._saver.note_saved()
        # Scores before and after such a change are not comparable.
        self._rescore = any(
            change["rescored"] and found.step <= change["from_step"] for change in record.changes
        )
        if self._rescore:
            self.progress = replace(
                self.progress, best_step=None, best_mse=None, best_score=None, unimproved=0
            )
        self.plan.terminal.say(f"Resuming {self.run.folder} from step {found.step:,}")

    def _start_from(self, start: InitialWeights) -> None:
        self.training.assign_weights(start.weights(), start.path)
        where = f"{start.folder}, step {start.step:,}"
        self.plan.terminal.say(f"Starting from the weights of {where}")


class _Wait:
    """Warns once if no batch arrives for a minute."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._folder, self._warn = plan.run.folder, plan.terminal.warn
        self._warned = False

    def note(self, seconds: float, case: str, step: int) -> None:
        if seconds < _PATIENCE_S:
            self._warned = False
        elif not self._warned:
            self._warned = True
            text = f"no crop for {seconds:.0f} s at step {step:,}; waiting for {case}"
            self._warn(f"{self._folder}: {text}")
