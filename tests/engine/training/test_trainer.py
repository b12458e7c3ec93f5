import json
from dataclasses import replace

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.errors import Interrupted, Mismatch
from engine.inference.predictor import Predictor
from engine.recipe.overrides import override
from engine.runs.metrics_file import validations
from engine.runs.record import RunRecord
from engine.runs.trained_model import Model
from engine.runs.training_run import TrainingRun
from engine.terminal import Terminal
from engine.training.signals import Stop
from tests.engine.tiny import tiny
from volumes.sampling.examples import Examples


class Asked:
    """Somebody who asks to stop when he has been looked at so many times."""

    def __init__(self, looks=None):
        self.looks = looks

    @property
    def asked(self):
        if self.looks is None:
            return None
        self.looks -= 1
        return "SIGTERM" if self.looks < 0 else None

    def hold(self):
        pass

    def check(self):
        pass


@pytest.fixture
def loop(cpu, volume, tmp_path):
    """Makes the trainer of a tiny recipe in the folder `run`."""
    from engine.training.trainer import Trainer, TrainingPlan
    from engine.training.validation import Validation

    def make(*changes):
        recipe = override(tiny("unet3d", "network.levels=1"), changes)
        examples = Examples([volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
        run = TrainingRun(tmp_path / "run")
        run.folder.mkdir(exist_ok=True)
        validation = Validation(recipe, [volume])
        terminal = Terminal(quiet=True)
        return Trainer(TrainingPlan(run, RunRecord(), recipe, cpu, examples, validation, terminal))

    return make


def rows(loop):
    return [json.loads(line) for line in loop.run.metrics.read_text().splitlines()]


def losses(loop):
    return [(row["step"], row["loss"]) for row in rows(loop) if "loss" in row]


def test_every_step_has_a_row_in_order(loop):
    ours = loop("steps=5", "checkpoint_every=3", "validate_every=4")
    assert ours.train(Asked()).step == 5
    assert [step for step, _ in losses(ours)] == [1, 2, 3, 4, 5]
    row = next(row for row in rows(ours) if row["step"] == 2)
    assert row["learning_rate"] == 1e-3
    assert row["seconds"] > 0
    assert row["crops_per_second"] == pytest.approx(2 / row["seconds"], rel=0.2)
    assert 0 <= row["input_wait_fraction"] <= 1


def test_validation_and_saving_happen_when_they_are_due_and_at_the_end(loop):
    ours = loop("steps=5", "checkpoint_every=3", "validate_every=4")
    ours.train(Asked())
    assert [row["step"] for row in rows(ours) if row.get("method") == "network"] == [4, 5]
    assert checkpoint.steps(ours.run.checkpoints)[-2:] == [4, 5]
    assert ours.run.preview.read_bytes().startswith(b"\x89PNG")


def test_the_preview_names_the_slice_of_the_scan(loop, monkeypatch):
    ours, titles = loop("steps=1", "validate_slices=2"), []
    monkeypatch.setattr(
        "engine.training.training_log.panel",
        lambda path, images, residual, title, window: (path.touch(), titles.append(title)),
    )
    ours.train(Asked())
    assert titles == ["phantom, slice 6 (0 to 11), step 1"]


def test_the_baselines_stand_before_the_first_step(loop):
    ours = loop("steps=1")
    ours.train(Asked())
    assert (rows(ours)[0]["step"], rows(ours)[0]["method"]) == (0, "noisy")
    assert rows(ours)[0]["mean"]["psnr_db"] > 15


def test_the_best_validation_is_remembered(loop):
    ours = loop("steps=6", "validate_every=2", "learning_rate=0.05")
    progress = ours.train(Asked())
    scored = {r["step"]: r["mean"]["mse"] for r in rows(ours) if r.get("method") == "network"}
    assert progress.best_mse == min(scored.values())
    assert scored[progress.best_step] == progress.best_mse
    assert checkpoint.verified(ours.run.checkpoint("last")) == progress


def test_the_rate_follows_the_schedule(loop):
    ours = loop("steps=3", "learning_rate=cosine:0.01,0.0001")
    ours.train(Asked())
    rates = [row["learning_rate"] for row in rows(ours) if "loss" in row]
    assert rates == pytest.approx([0.01, 0.00505, 0.0001])


@pytest.mark.parametrize("looks", range(3))
def test_who_asks_to_stop_finds_a_checkpoint_of_that_step(loop, looks):
    ours = loop("steps=100", "validate_every=100", "checkpoint_every=100")
    with pytest.raises(Interrupted, match="by SIGTERM") as stopped:
        ours.train(Asked(looks))
    step = ours.progress.step
    assert f"stopped at step {step} " in stopped.value.cause
    assert checkpoint.steps(ours.run.checkpoints) == [step]
    assert [step for step, _ in losses(ours)] == list(range(1, step + 1))


def test_who_asks_at_the_last_step_gets_a_finished_run(loop):
    ours = loop("steps=1")
    assert ours.train(Asked(0)).step == 1
    assert checkpoint.steps(ours.run.checkpoints) == [1]


MANY = ("average=0.9", "accumulate=2", "weight_decay=0.1", "clip_norm=0.1", "loss=0.8*l1+0.2*ssim")


@pytest.mark.parametrize("more", [(), ("average=0.9",), MANY], ids=str)
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(loop, tmp_path, more):
    whole = loop("steps=4", *more)
    whole.train(Asked())
    expected, told = whole.training.arrays(), losses(whole)
    whole.run.folder.rename(tmp_path / "whole")

    first = loop("steps=4", "checkpoint_every=100", *more)
    with pytest.raises(Interrupted):
        first.train(Asked(1))
    again = loop("steps=4", *more)
    assert 0 < again.progress.step < 4
    again.train(Asked())
    assert losses(again) == told
    assert any(name.startswith("average/") for name in expected) == ("average=0.9" in more)
    for name, array in again.training.arrays().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("change", ["network.levels=2", "network.width=4"])
def test_a_checkpoint_of_another_network_is_not_taken_up(loop, change):
    ours = loop()
    checkpoint.save(ours.run.checkpoints, ours.training.arrays(), Progress(1))
    with pytest.raises(Mismatch, match="step-00000001: holds"):
        loop(change)


def test_every_level_has_a_row_and_the_best_is_that_of_the_mean(loop):
    ours = loop("steps=2", "validate_every=1", "validate_at=0.05,0.2")
    progress = ours.train(Asked())
    found = [row for row in rows(ours) if row.get("method") == "network"]
    assert [row.get("level") for row in found] == ["5%", "20%", None] * 2
    low, high, mean = (row["mean"] for row in found[-3:])
    assert mean["mse"] == pytest.approx((low["mse"] * high["mse"]) ** 0.5)
    assert mean["psnr_db"] == pytest.approx((low["psnr_db"] + high["psnr_db"]) / 2)
    means = [row["mean"]["mse"] for row in found if "level" not in row]
    assert progress.best_mse == min(means)
    assert [found.step for found in validations(ours.run)] == [0, 1, 2]


def test_the_average_of_the_weights_is_what_is_validated_and_applied(loop):
    ours = loop("steps=3", "average=0.9", "learning_rate=0.05")
    ours.train(Asked())
    arrays = ours.training.arrays()
    averaged = checkpoint.weights(arrays)
    assert any((array != arrays[name]).any() for name, array in averaged.items())
    path, recipe = checkpoint.place(ours.run.checkpoints, 3), ours.recipe
    applied = Model(ours.run, path, recipe, RunRecord(), checkpoint.load(path)).network()
    for variable in applied.weights:
        np.testing.assert_array_equal(variable.numpy(), averaged[f"model/{variable.path}"])
    scored, _ = ours.plan.validation.scores(Predictor(applied))
    assert scored.mean["mse"] == pytest.approx(ours.progress.best_mse, rel=1e-5)


def test_tensorboard_holds_the_numbers_of_the_rows(loop, tf):
    from tensorflow.core.util import event_pb2

    ours = loop("steps=10", "validate_every=10")
    ours.train(Asked())
    told = {}
    for path in ours.run.tensorboard.iterdir():
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                told[value.tag] = (event.step, value)
    step, loss = losses(ours)[-1]
    assert told["training/loss"][0] == step == 10
    assert told["training/loss"][1].simple_value == pytest.approx(loss)
    assert told["validation/psnr_db"][1].simple_value > 0
    picture = told["validation"][1].image.encoded_image_string
    assert picture == ours.run.preview.read_bytes()


class AskedIn(Stop):
    """Somebody who asks to stop in the validation of a step, after some looks."""

    def __init__(self, trainer, step, looks):
        super().__init__()
        self.trainer, self.step, self.looks, self.looked = trainer, step, looks, 0

    def check(self):
        if self.trainer.progress.step == self.step:
            self.looked += 1
            if self.looked > self.looks:
                self.asked = "SIGINT"
        super().check()


def plain(loop):
    """The rows of a training without what the clock decides."""
    timed = {"seconds", "crops_per_second", "input_wait_fraction"}
    return [{name: row[name] for name in row.keys() - timed} for row in rows(loop)]


@pytest.mark.parametrize("looks", [0, 1])
def test_a_stop_within_a_validation_is_made_up_for_and_changes_no_bit(loop, tmp_path, looks):
    changes = ("steps=4", "validate_every=2", "checkpoint_every=100", "validate_at=0.05,0.1")
    whole = loop(*changes)
    done = whole.train(Stop())
    expected, told = whole.training.arrays(), plain(whole)
    whole.run.folder.rename(tmp_path / "whole")

    first = loop(*changes)
    stop = AskedIn(first, 2, looks)
    with pytest.raises(Interrupted, match="stopped at step 2 by SIGINT"):
        first.train(stop)
    assert stop.looked == looks + 1  # it went no further
    assert not [row for row in rows(first) if row["step"] == 2 and "loss" not in row]
    assert checkpoint.verified(first.run.checkpoint("last")).unvalidated

    killed = loop(*changes)  # after the validation, before its result was saved
    with pytest.raises(ZeroDivisionError):
        killed.train(Dying())
    again = loop(*changes)
    assert again.train(Stop()) == done
    assert plain(again) == told
    for name, array in again.training.arrays().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert checkpoint.verified(again.run.checkpoint("last")) == done


class Dying(Stop):
    """A process that ends before its first step."""

    def hold(self):
        raise ZeroDivisionError


def test_the_validation_of_the_last_step_is_completed(loop):
    ours = loop("steps=2", "validate_every=2")
    stop = AskedIn(ours, 2, 0)
    assert ours.train(stop).best_step == 2
    assert stop.looked == 0


def test_a_stop_before_the_first_step_is_raised_and_saves_nothing(loop):
    ours, stop = loop("steps=2"), Stop()
    trace = ours.training.step.trace

    def asked(*given):
        trace(*given)
        stop.asked = "SIGTERM"

    ours.training.step.trace = asked
    with pytest.raises(KeyboardInterrupt):
        ours.train(stop)
    assert checkpoint.steps(ours.run.checkpoints) == []


def test_the_trace_before_the_first_step_is_the_one_that_is_used(loop):
    ours = loop("steps=2")
    ours.train(Stop())
    assert ours.training.step.run.experimental_get_tracing_count() == 1


IMPATIENT = ("steps=30", "validate_every=1", "checkpoint_every=100", "patience=3")


@pytest.fixture
def worse(monkeypatch):
    """Every validation after the second has a higher error."""

    def patch(trainer):
        scores = trainer.plan.validation.scores

        def rising(*given):
            scored, estimate = scores(*given)
            step = trainer.progress.step
            cases = {
                level: {c: replace(s, mse=1.0 if step < 2 else 0.5 + step / 100)
                        for c, s in at.items()}
                for level, at in scored.cases.items()
            }  # fmt: skip
            return replace(scored, cases=cases), estimate

        monkeypatch.setattr(trainer.plan.validation, "scores", rising)
        return trainer

    return patch


def test_a_training_ends_after_its_patience_and_says_so(loop, worse, capsys):
    ours = worse(loop(*IMPATIENT))
    ours.plan.terminal.quiet = False
    progress = ours.train(Stop())
    assert (progress.step, progress.best_step, progress.unimproved) == (5, 2, 3)
    assert (
        "stopped at step 5: 3 validations in a row without a better score than that of step 2"
        in (capsys.readouterr().err)
    )
    assert checkpoint.verified(ours.run.checkpoint("last")) == progress
    again = loop(*IMPATIENT)
    assert again.train(Stop()) == progress  # it has ended
    assert [step for step, _ in losses(again)] == [1, 2, 3, 4, 5]


def test_patience_that_is_raised_lets_a_training_go_on(loop, worse):
    worse(loop(*IMPATIENT)).train(Stop())
    assert worse(loop(*IMPATIENT, "patience=5")).train(Stop()).step == 7
    assert loop(*IMPATIENT, "patience=0", "steps=8").train(Stop()).step == 8


@pytest.mark.parametrize("looks", range(1, 5))
def test_an_impatient_training_resumes_to_the_bit(loop, worse, tmp_path, looks):
    whole = worse(loop(*IMPATIENT))
    done = whole.train(Stop())
    expected, told = whole.training.arrays(), plain(whole)
    whole.run.folder.rename(tmp_path / "whole")
    first = worse(loop(*IMPATIENT))
    with pytest.raises(Interrupted):
        first.train(AskedIn(first, looks, 0))
    again = worse(loop(*IMPATIENT))
    assert again.train(Stop()) == done
    assert plain(again) == told
    for name, array in again.training.arrays().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_a_validation_that_was_due_may_end_an_impatient_training(loop, worse):
    first = worse(loop(*IMPATIENT))
    with pytest.raises(Interrupted):
        first.train(AskedIn(first, 5, 0))
    again = worse(loop(*IMPATIENT))
    assert again.train(Stop()).step == 5
    assert checkpoint.verified(again.run.checkpoint("last")) == again.progress
    assert again.progress.unimproved == 3
