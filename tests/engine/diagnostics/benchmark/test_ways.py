import numpy as np
import pytest

from engine.diagnostics.benchmark.stage_times import StageTimes
from engine.diagnostics.benchmark.ways import COMMAND, STAGES, STREAMED, UNTILED, ours
from engine.inference.tiling import Plan
from engine.networks import UNet3D


@pytest.fixture(scope="module")
def ways(case):
    return ours(case)


def test_streamed_and_tiled_estimates_are_those_of_one_pass(case, ways):
    untiled = ways[UNTILED]()
    assert np.ptp(untiled) > 0.01
    assert [name for name in ways if name not in (UNTILED, COMMAND)] == [
        STREAMED, "network, tiles that keep 8 x 32 x 32",
    ]  # fmt: skip
    for name in ways.keys() - {UNTILED, COMMAND}:
        assert case.apart_hu(ways[name](), untiled) < 0.001


def test_the_streamed_way_streams_and_the_tiled_way_cuts_every_axis(case):
    shape = (32, 128, 128)
    streamed = Plan(shape, shape, UNet3D(16)).in_slabs()
    assert streamed.streamed
    assert streamed.count == 4
    assert Plan((16, 64, 64), case.tile, UNet3D(16)).count == 8


def test_the_whole_command_writes_what_engine_denoise_writes(case, ways, engine, tmp_path):
    ways[COMMAND]()
    denoised = tmp_path / "denoised.nii.gz"
    code, _, err = engine("denoise", case.scan, "-m", case.run.folder, "-o", denoised)
    assert code == 0, err
    assert denoised.read_bytes() == (case.folder / "denoised.nii.gz").read_bytes()


def test_every_stage_of_the_command_is_measured(ways):
    times = StageTimes(STAGES)
    with times.measuring():
        ways[COMMAND]()
    assert set(times.seconds) == set(STAGES.values())
    assert all(seconds > 0 for seconds in times.seconds.values())


@pytest.mark.parametrize("function", STAGES)
def test_every_function_of_a_stage_is_called(ways, function):
    times = StageTimes({function: "stage"})
    with times.measuring():
        ways[COMMAND]()
    assert times.seconds["stage"] > 0
