from dataclasses import replace

import pytest

from engine.errors import BadUsage
from engine.training.bfloat16 import refuse_shallow
from tests.engine.tiny import shrinking, tiny


def test_filters_deeper_than_their_slices_are_refused(cpu):
    started = replace(cpu, precision="bfloat16")
    shallow = tiny("unet3d", "network.levels=2", "crop.shape=4,16,16")
    cause = "--precision bfloat16: computes wrong gradients on a CPU: .* has filters of 3 slices"
    with pytest.raises(BadUsage, match=cause + " for 2"):
        refuse_shallow(shallow, started)
    for each in (
        replace(cpu, precision="float16"), replace(cpu, precision="float32"),
        replace(started, xla=True),
    ):  # fmt: skip
        refuse_shallow(shallow, each)


@pytest.mark.parametrize("more", ["crop.shape=8,16,16", "batch=1"])
def test_deeper_and_single_crops_are_not_refused(cpu, more):
    recipe = tiny("unet3d", "network.levels=2", "crop.shape=4,16,16", more)
    refuse_shallow(recipe, replace(cpu, precision="bfloat16"))


def test_a_dry_run_refuses_them_too(engine, dataset, tmp_path):
    words = ("fit", "unet3d", *shrinking(), "crop.shape=4,16,16", "--data", dataset)
    code, _, err = engine(*words, "--run", tmp_path / "run", "--precision", "bfloat16", "--dry-run")
    assert code == 2
    assert "Use --precision float32, or a deeper crop.shape" in err
