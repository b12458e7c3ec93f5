import math
import subprocess
import sys

import pytest

from engine.recipe.overrides import override
from tests.engine.tiny import tiny

MEASURE = r"""
import re, sys
import numpy as np
from engine import runtime
from tests.engine.tiny import tiny
started = runtime.start("cpu")
import tensorflow as tf
from engine.training.batches import feed
from engine.training.state import TrainingState
from engine.training.step_cost import step_cost
from volumes.sampling.examples import Examples
from volumes.volume import Volume
recipe = tiny(*sys.argv[1:])
hu = np.random.default_rng(0).integers(-1000, 400, (16, 128, 128)).astype(np.int16)
examples = Examples([Volume(hu, (3.0, 1.0, 1.0), "a", "0")], recipe.crop, recipe.noise, None, 0)
state, needed = TrainingState(recipe, started), step_cost(recipe).bytes
with feed(examples, recipe.batch, started.strategy) as fed:
    batches = list(fed.batches(0, 3))
def kib(field):
    # Not getrusage: its peak is that of the parent, where the parent was larger.
    return int(re.search(field + r":\s+(\d+) kB", open("/proc/self/status").read())[1])
before = kib("VmRSS")
for batch in batches:
    float(state.step(batch, tf.constant(1e-3)).loss)
print(needed / 1024 / (kib("VmHWM") - before))
"""


@pytest.mark.parametrize(
    "words",
    [
        ("unet3d", "network.width=16", "network.levels=3", "crop.shape=16,128,128", "batch=2"),
        ("dncnn", "network.depth=17", "network.width=64", "crop.shape=1,128,128", "batch=4"),
        ("gaussian_denoiser", "network.widths=24,32,48", "crop.shape=1,128,128", "batch=24"),
    ],
    ids=lambda words: words[0],
)
def test_the_memory_of_a_step_is_what_is_measured_to_a_fifth(words):
    line = [sys.executable, "-c", MEASURE, *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0.8 < float(done.stdout.split()[-1]) < 1.2


def test_parameters_and_voxels_are_those_of_the_recipe(cpu):
    from engine.training.step_cost import step_cost

    recipe = tiny("respr_unet3d", "batch=3", "crop.shape=8,32,16")
    cost = step_cost(recipe)
    model = recipe.network.build()
    assert cost.parameters == sum(math.prod(v.shape) for v in model.trainable_variables)
    assert cost.voxels == 3 * 8 * 32 * 16


def test_a_larger_batch_needs_more_and_half_precision_less(cpu):
    from engine.training.step_cost import step_cost

    recipe = tiny("unet2d", "batch=8", "crop.shape=1,256,256")
    whole, half = step_cost(recipe).bytes, step_cost(recipe, "bfloat16").bytes
    assert step_cost(override(recipe, ["batch=16"])).bytes > 1.5 * whole
    assert half < 0.8 * whole  # buffers and parameters stay


def test_a_few_steps_take_time(cpu, volume):
    from engine.training.step_cost import seconds_a_step

    assert 0 < seconds_a_step(tiny("unet2d"), cpu, volume) < 60
