import re

import numpy as np
import pytest

from engine.denoising.denoise import DenoiseSettings, plan_for
from engine.denoising.expected_time import Pace
from engine.inference.predictor import Predictor
from engine.runs.run import Run
from engine.runs.trained_model import open_model
from tests.engine.fresh import fresh
from tests.engine.tiny import scan_file
from volumes import nifti

TILE_S = 0.2


@pytest.fixture
def scan(tmp_path, phantom_hu):
    return nifti.open_scan(scan_file(tmp_path / "scan.nii", phantom_hu))


class Slow(Predictor):
    """A predictor that takes a known time for each tile, and longer for the first one."""

    applied = 0

    def tiles(self, plan, noisy, prior):
        import time

        for tile in plan.tiles():
            self.applied += 1
            time.sleep(TILE_S + (self.applied == 1))
            yield tile.keep, noisy(tile.keep)


def test_the_time_of_a_few_tiles_is_scaled_to_all(cpu, unet_run, scan):
    model, settings = open_model(Run(unet_run)), DenoiseSettings(tile=(1, 64, 64))
    predictor = Slow(model.network())
    seconds = Pace.of(scan, model, predictor, settings).seconds([scan, scan])
    count = plan_for(scan, model.recipe, settings).count
    assert predictor.applied == 3 < count
    assert 2 * count * TILE_S < seconds < 2 * count * TILE_S * 2.5


def test_a_scan_of_one_tile_is_measured_as_well(cpu, unet_run, scan):
    model, settings = open_model(Run(unet_run)), DenoiseSettings(tile=scan.shape)
    assert Pace.of(scan, model, Slow(model.network()), settings).seconds([scan]) > TILE_S + 1


def test_a_plan_tells_the_time_of_each_scan_and_of_all_and_writes_nothing(
    engine, unet_run, tmp_path
):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in "ab":
        scan_file(folder / f"{name}.nii", np.zeros((3, 32, 32), np.int16))
    words = ("denoise", folder, "-m", unet_run, "--plan", "--time", "-o", tmp_path / "out")
    code, out, err = engine(*words)
    assert code == 0, err
    *scans, total = out.splitlines()
    assert [line.startswith(f"{folder / name}.nii: 3 x 32 x 32 voxels") for line, name in zip(
        scans, "ab", strict=True)] == [True, True]  # fmt: skip
    assert all(re.search(r"; about \d+ s$", line) for line in scans)
    assert re.fullmatch(r"2 scans: about \d+ s on this machine, without writing", total)
    assert not (tmp_path / "out").exists()


def test_time_without_a_plan_is_refused(unet_run, phantom_file):
    ended = fresh("denoise", phantom_file, "-m", unet_run, "--time")
    assert (ended.code, ended.slow) == (2, set())
    assert "--time: has no effect without --plan" in ended.err
