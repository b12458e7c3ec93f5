"""Trainings with numbers that are not finite, and trainings that learn nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.errors import NumericalFailure
from engine.recipe.overrides import override
from engine.recipe.recipe import Recipe
from engine.runs.record import RunRecord
from engine.runs.training_run import TrainingRun
from engine.terminal import Terminal
from engine.training.signals import Stop
from tests.engine.tiny import tiny
from tests.gates.ledger import Faults
from volumes.sampling.examples import Examples
from volumes.volume import Volume


class Noted(Terminal):
    """Records its warnings."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Spoilt:
    """Examples with invalid noise, from one of them on."""

    def __init__(self, examples: Examples, first: int, sigma: float, stop: int = 10**9) -> None:
        self.examples, self.first, self.stop, self.sigma = examples, first, stop, sigma
        self.dtype = examples.dtype

    def case(self, i: int) -> str:
        return self.examples.case(i)

    def __getitem__(self, i: int):
        example = self.examples[i]
        if self.first <= i < self.stop:
            return dataclasses.replace(example, sigma=self.sigma)
        return example


def volume_of(hu: np.ndarray) -> Volume:
    return Volume(hu.astype(np.int16), (3.0, 0.8, 0.8), "case_00007", "7" * 64)


@pytest.fixture
def hu(phantom_hu: np.ndarray) -> np.ndarray:
    return phantom_hu[:8, :32, :32]


@pytest.fixture
def loop(cpu, hu: np.ndarray, tmp_path: Path):
    """Makes a loop, of which what is fed and how it is computed may be changed."""
    from engine.training.trainer import Trainer, TrainingPlan
    from engine.training.validation import Validation

    def make(
        *changes: str, hu: np.ndarray = hu, precision: str = "float32",
        recipe: Callable[[Recipe], Recipe] = lambda recipe: recipe, **spoilt,
    ):  # fmt: skip
        made = override(tiny("unet3d", "network.levels=1"), ["checkpoint_every=1", *changes])
        made, volume = recipe(made), volume_of(hu)
        examples = Examples([volume], made.crop, made.noise, made.prior, made.seed)
        run = TrainingRun(tmp_path / "run")
        run.folder.mkdir()
        plan = TrainingPlan(
            run, RunRecord(), made, dataclasses.replace(cpu, precision=precision),
            Spoilt(examples, **spoilt) if spoilt else examples, Validation(made, [volume]), Noted(),
        )  # fmt: skip
        return Trainer(plan)

    return make


def failure(loop) -> NumericalFailure:
    """Checks the end: exit code 6, one line; saved values are finite, and never the best."""
    with pytest.raises(NumericalFailure) as caught:
        loop.train(Stop())
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)
    for step in checkpoint.steps(loop.run.checkpoints):
        path = loop.run.checkpoints / f"step-{step:08d}"
        best = checkpoint.verified(path).best_mse
        assert best is None or np.isfinite(best)
        for name, array in checkpoint.load(path).items():
            assert np.isfinite(array).all(), name
    return caught.value


def weights(loop, step: int) -> dict[str, np.ndarray]:
    arrays = checkpoint.load(loop.run.checkpoints / f"step-{step:08d}")
    return {name: array for name, array in arrays.items() if not name.startswith("loss_scale")}


@pytest.mark.gate("G11")
@pytest.mark.parametrize("sigma", [np.nan, np.inf])
@pytest.mark.parametrize("bad", [1, 3])
def test_input_that_is_not_finite_ends_a_training_within_three_steps(
    faults: Faults, loop, sigma: float, bad: int
) -> None:
    ours = loop("steps=20", "validate_every=20", first=2 * (bad - 1), sigma=sigma)
    told = failure(ours)
    # Rectifiers may hide it from the loss, never from the gradient.
    assert "3 steps in a row without finite gradients" in told.cause
    assert f"the last one step {bad + 2} on case_00007 at (" in told.cause
    assert told.cause.count("case_00007 at (") == 2  # each crop of the batch
    assert "learning rate 0.001, gradient norm nan" in told.cause
    assert "float32" not in told.remedy
    # Nothing is learned from a bad step: what was saved last is from before the first of them.
    if bad > 1:
        for name, array in weights(ours, bad + 1).items():
            np.testing.assert_array_equal(array, weights(ours, bad)[name], err_msg=name)
    rows = [json.loads(line) for line in ours.run.metrics.read_text().splitlines()]
    assert [row["gradient_norm"] for row in rows if "loss" in row][bad - 1 :] == [None] * 3
    faults.handled()


@pytest.mark.gate("G11")
def test_two_bad_steps_are_survived_and_nothing_is_learned_from_them(faults: Faults, loop) -> None:
    ours = loop("steps=8", first=4, stop=8, sigma=np.nan)
    assert ours.train(Stop()).step == 8
    assert np.isfinite(ours.progress.best_mse)
    faults.handled()


@pytest.mark.gate("G11")
def test_a_loss_scale_without_a_working_value_ends_a_training(faults: Faults, loop) -> None:
    def huge(clean, estimate):
        import tensorflow as tf

        error = tf.reduce_mean(tf.square(tf.cast(estimate, tf.float32) - clean), [1, 2, 3, 4])
        return 1e12 * error

    ours = loop(
        "steps=80", "checkpoint_every=100", "validate_every=100", precision="float16",
        recipe=lambda recipe: dataclasses.replace(recipe, loss=huge),
    )  # fmt: skip
    told = failure(ours)
    assert "50 steps in a row without finite gradients, the last one step 50 " in told.cause
    assert "--precision bfloat16 or float32" in told.remedy
    assert float(ours.training.adam.scale.numpy()) == 1.0
    faults.handled()


@pytest.mark.gate("G11")
def test_a_loss_scale_that_is_too_large_is_reduced(faults: Faults, loop) -> None:
    every = ("checkpoint_every=100", "validate_every=100")
    ours = loop("steps=45", *every, precision="float16")
    ours.training.adam.scale.assign(2.0**40)
    start = ours.training.arrays()
    ours.train(Stop())
    assert float(ours.training.adam.scale.numpy()) < 2.0**40
    assert any((ours.training.arrays()[n] != start[n]).any() for n in start if "kernel" in n)
    faults.handled()


@pytest.mark.gate("G11")
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_changes_no_weight_even_with_finite_gradients(
    faults: Faults, loop, precision: str, value: float
) -> None:
    def lost(clean, estimate):
        import tensorflow as tf

        error = tf.reduce_mean(tf.square(tf.cast(estimate, tf.float32) - clean), [1, 2, 3, 4])
        return error + tf.constant(value)

    ours = loop(
        "steps=60", precision=precision,
        recipe=lambda recipe: dataclasses.replace(recipe, loss=lost),
    )  # fmt: skip
    start = ours.training.arrays()
    told = failure(ours)
    assert "3 steps in a row without a finite loss" in told.cause
    for name, array in weights(ours, 1).items():
        np.testing.assert_array_equal(array, start[name], err_msg=name)
    faults.handled()


@pytest.mark.gate("G11")
@pytest.mark.parametrize("rate", ["1e6", "1e38"])
def test_an_absurd_learning_rate_ends_a_training_or_gives_a_warning(
    faults: Faults, loop, rate: str
) -> None:
    ours = loop("steps=12", "validate_every=1", f"learning_rate={rate}")
    with contextlib.suppress(NumericalFailure):
        ours.train(Stop())
        assert ours.plan.terminal.warnings, "it went on as if nothing were wrong"
    assert ours.progress.best_mse is None or np.isfinite(ours.progress.best_mse)
    faults.handled()


@pytest.mark.gate("G11")
def test_a_variable_that_is_not_finite_is_not_saved(faults: Faults, loop) -> None:
    for where in ("adam/square/", "adam/mean/"):
        ours = loop("steps=4")
        name = next(name for name in ours.training.state if name.startswith(where))
        variable = ours.training.state[name]
        variable.assign(np.full(variable.shape, np.inf, np.float32))
        told = failure(ours)
        assert "that are not finite" in told.cause
        assert not checkpoint.steps(ours.run.checkpoints)
        faults.handled()
        ours.run.folder.rename(ours.run.folder.with_name(where.replace("/", "-")))


@pytest.mark.gate("G11")
@pytest.mark.parametrize("value", [-1000, 0, 400, 3000])
def test_constant_data_give_a_warning(faults: Faults, loop, hu: np.ndarray, value: int) -> None:
    ours = loop("steps=4", "validate_every=1", hu=np.full_like(hu, value))
    assert ours.train(Stop()).step == 4
    assert any("case_00007 is constant" in text for text in ours.plan.terminal.warnings)
    faults.handled()


@pytest.mark.gate("G11")
def test_data_of_pure_noise_give_a_warning(faults: Faults, loop, hu: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(-1000, 400, hu.shape)
    ours = loop("steps=4", "validate_every=1", hu=noise)
    assert ours.train(Stop()).step == 4
    assert any("no better than its noisy image" in text for text in ours.plan.terminal.warnings)
    faults.handled()


@pytest.mark.gate("G11")
@pytest.mark.parametrize("what", ["constant", "its noisy image"])
def test_an_estimate_without_information_gives_one_warning(
    faults: Faults, loop, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    from engine.training.validation import Validation

    def estimate(self, estimator, pair, _):
        return np.full_like(pair.clean, 0.4) if what == "constant" else pair.noisy.copy()

    monkeypatch.setattr(Validation, "estimate", estimate)
    ours = loop("steps=4", "validate_every=1")
    ours.train(Stop())
    assert sum(what in text for text in ours.plan.terminal.warnings if "no better" not in text) == 1
    faults.handled()


@pytest.mark.gate("G11")
def test_a_diverging_training_gives_a_warning_at_the_third_validation(
    faults: Faults, loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.training.validation import Validation

    quality = iter([0.001, 0.001, 0.3, 0.3, 0.3, 0.3])

    def estimate(self, estimator, pair, _):
        return pair.clean + np.float32(next(quality))

    monkeypatch.setattr(Validation, "estimate", estimate)
    ours = loop("steps=6", "validate_every=1")
    ours.train(Stop())
    assert sum("10 times worse than the best" in text for text in ours.plan.terminal.warnings) == 1
    assert ours.progress.best_step == 1
    faults.handled()
