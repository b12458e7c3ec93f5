"""What is promised of several devices: the same training as on one."""

from pathlib import Path

import pytest

from tests.training import rows, train


@pytest.mark.parametrize("recipe", ["respr_unet3d", "dncnn"])
def test_two_replicas_follow_the_loss_curve_of_one(
    recipe: str, dataset: Path, tmp_path: Path
) -> None:
    # DnCNN's batch normalisation sees the global batch only if its statistics are shared.
    shrunk = ["network.depth=4"] if recipe == "dncnn" else []
    for devices in ("cpu", "cpu:2"):
        options = (*shrunk, "steps=20", "--devices", devices)
        train(dataset, tmp_path / devices, *options, recipe=recipe)
    one, two = (
        [row["loss"] for row in rows(tmp_path / devices) if "loss" in row]
        for devices in ("cpu", "cpu:2")
    )
    assert len(one) == 20
    assert two == pytest.approx(one, rel=0, abs=1e-5)  # in squared window units
