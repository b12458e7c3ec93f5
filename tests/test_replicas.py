"""What is promised of several devices: the same training as on one."""

import os
from pathlib import Path

import pytest

from engine.checkpoints import checkpoint
from engine.runs.run import Run
from tests.gates.trainings import Aim, ended, start
from tests.training import command, losses, rows, train


def test_neighbours_and_parts_follow_the_loss_curve_of_one_replica_also_if_they_are_killed(
    dataset: Path, tmp_path: Path
) -> None:
    options = (
        "objective=neighbour_slices", "objective.limit_mm=9", "loss=0.8*l1+0.2*ssim",
        "network.depth=4", "crop.shape=1,16,16", "weight_decay=0.1", "clip_norm=0.1",
        "average=0.9", "accumulate=2", "steps=20",
    )  # fmt: skip
    cache, said, killed = Path(os.environ["ENGINE_CACHE"]), tmp_path / "said", tmp_path / "killed"
    for devices in ("cpu", "cpu:2"):
        more = (*options, "--devices", devices)
        train(dataset, tmp_path / devices, *more, recipe="dncnn")
    one, two = (losses(tmp_path / devices) for devices in ("cpu", "cpu:2"))
    assert len(one) == 20
    assert two == pytest.approx(one, rel=0, abs=1e-5)
    words = command(dataset, killed, *more, recipe="dncnn")[4:]
    kill = Aim("engine.training.trainer.Trainer._learn", skip=12)
    assert ended(start(words, cache, said, kill)) == -9, said.read_text()
    assert checkpoint.steps(Run(killed).checkpoints)[-1] == 10
    assert ended(start(words, cache, said)) == 0, said.read_text()
    assert rows(killed) == rows(tmp_path / "cpu:2")
    both = (Run(run).checkpoint("last") for run in (killed, tmp_path / "cpu:2"))
    assert len({checkpoint.fingerprint(each) for each in both}) == 1


@pytest.mark.parametrize("recipe", ["respr_unet3d", "lowdose_dncnn"])
def test_two_replicas_follow_the_loss_curve_of_one(
    recipe: str, dataset: Path, tmp_path: Path
) -> None:
    # DnCNN's batch normalisation sees the global batch only if its statistics are shared.
    shrunk = ["network.depth=4"] if "dncnn" in recipe else []
    if recipe == "lowdose_dncnn":  # whose scans are made in the threads that feed both
        shrunk += [f"noise.scanner.geometry.{field}" for field in ("views=120", "bins=41")]
        shrunk += ["learning_rate=1e-4"]
    for devices in ("cpu", "cpu:2"):
        options = (*shrunk, "steps=20", "average=0.9", "--devices", devices)
        train(dataset, tmp_path / devices, *options, recipe=recipe)
    one, two = (losses(tmp_path / devices) for devices in ("cpu", "cpu:2"))
    assert len(one) == 20
    assert two == pytest.approx(one, rel=0, abs=1e-5)  # in squared window units
    # What is validated is the average of the weights, which every replica keeps.
    one, two = (
        [row["mean"]["mse"] for row in rows(tmp_path / devices) if row.get("method") == "network"]
        for devices in ("cpu", "cpu:2")
    )
    assert two == pytest.approx(one, rel=1e-3)
