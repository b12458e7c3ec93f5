import numpy as np
import pytest

from engine.errors import BadUsage
from engine.recipe.overrides import override
from engine.runs.record import RunRecord
from engine.runs.training_run import TrainingRun
from engine.terminal import Terminal
from engine.training.observation import Observation
from engine.training.signals import Stop
from tests.engine.tiny import tiny
from tests.engine.training.test_tensorboard import events
from tests.gates.trainings import Dropping
from volumes.sampling.examples import Examples


@pytest.fixture
def trained(cpu, volume, tmp_path):
    """Trains a network with dropouts and batch statistics for a few steps; the trainer."""
    from dataclasses import replace

    from engine.training.trainer import Trainer, TrainingPlan
    from engine.training.validation import Validation

    def train(name, observation, *changes):
        recipe = override(tiny("unet3d", "steps=6", "validate_every=6"), changes)
        recipe = replace(recipe, network=Dropping())
        examples = Examples([volume], recipe.crop, recipe.noise, recipe.prior, recipe.seed)
        run = TrainingRun(tmp_path / name)
        run.folder.mkdir(exist_ok=True)
        validation, terminal = Validation(recipe, [volume]), Terminal(quiet=True)
        plan = TrainingPlan(
            run, RunRecord(), recipe, cpu, examples, validation, terminal,
            observation=observation,
        )  # fmt: skip
        trainer = Trainer(plan)
        trainer.train(Stop())
        return trainer

    return train


def test_the_bits_of_a_training_do_not_depend_on_its_observation(trained, tmp_path):
    plain = trained("plain", Observation()).training.arrays()
    seen = trained("seen", Observation(histograms=1, profile=(2, 4))).training.arrays()
    assert any(name.startswith("seed/") for name in plain)
    assert any("moving" in name for name in plain)
    for name, array in plain.items():
        assert array.tobytes() == seen[name].tobytes(), name


def test_histograms_are_of_the_weights_and_gradients_of_their_step(trained, monkeypatch, tmp_path):
    ours = trained("run", Observation(histograms=3), "learning_rate=0.01")
    found = {(tag, step): value.histo for tag, step, value in events(ours.run.tensorboard)}
    variables = ours.training.model.trainable_variables
    assert {key for key in found if key[0].startswith(("weights/", "gradients/"))} == {
        (f"{kind}/{v.path}", step)
        for v in variables for kind in ("weights", "gradients") for step in (3, 6)
    }  # fmt: skip
    for variable in variables:
        last = np.asarray(variable.value.numpy(), np.float64)
        assert found[f"weights/{variable.path}", 6].sum == pytest.approx(last.sum())
        assert found[f"weights/{variable.path}", 3].sum != found[f"weights/{variable.path}", 6].sum


def test_the_norm_of_the_histograms_is_the_norm_of_the_step(trained):
    import json

    ours = trained("run", Observation(histograms=1))
    squares = dict.fromkeys(range(1, 7), 0.0)
    for tag, step, value in events(ours.run.tensorboard):
        if tag.startswith("gradients/"):
            squares[step] += value.histo.sum_squares
    rows = [json.loads(line) for line in ours.run.metrics.read_text().splitlines()]
    norms = {row["step"]: row["gradient_norm"] for row in rows if "loss" in row}
    assert {step: np.sqrt(square) for step, square in squares.items()} == pytest.approx(norms)


def test_a_profile_is_of_the_steps_that_are_asked_for(trained):
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    ours = trained("run", Observation(profile=(2, 4)))
    (path,) = ours.run.tensorboard.glob("plugins/profile/*/*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    named = {
        plane.stat_metadata[stat.metadata_id].name: stat.int64_value or stat.uint64_value
        for plane in space.planes for line in plane.lines for event in line.events
        for stat in event.stats if plane.event_metadata[event.metadata_id].name == "train"
    }  # fmt: skip
    steps = {
        stat.int64_value or stat.uint64_value or stat.str_value
        for plane in space.planes for line in plane.lines for event in line.events
        for stat in event.stats
        if plane.event_metadata[event.metadata_id].name.startswith("train")
        and plane.stat_metadata[stat.metadata_id].name == "step_num"
    }  # fmt: skip
    assert named
    assert {int(step) for step in steps} == {2, 3, 4}


def test_a_profile_of_finished_steps_is_a_warning(trained, capfd):
    trained("run", Observation())
    trained("run", Observation(profile=(2, 4)), "steps=7")
    assert "no profile: steps 2 to 4 are done already" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["100", "5:2", "0:3", "a:b", "1:2:3", "-1:2"])
def test_a_profile_of_no_steps_is_refused(engine, tmp_path, text):
    code, _, err = engine("fit", "unet3d", "--profile", text, "--data", tmp_path)
    assert code == 2
    assert err.startswith("engine: error: --profile: ")


def test_a_profile_beyond_the_last_step_is_refused():
    with pytest.raises(BadUsage, match="asks for step 110, and the training ends at 100"):
        Observation(profile=(100, 110)).refuse_beyond(100)
    Observation(profile=(100, 110)).refuse_beyond(110)


def test_histograms_every_no_step_are_refused():
    with pytest.raises(BadUsage, match=r"^--histograms: takes a number of steps, not 0"):
        Observation(histograms=0)
