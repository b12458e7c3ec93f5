import json

import numpy as np
import pytest

from engine.errors import BadUsage
from engine.training import device_cache
from engine.training.device_cache import DeviceCache, check, too_large
from tests.engine.tiny import shrinking, tiny
from tests.engine.training.batch_bits import KNOWN, kinds, sha256
from volumes import Crop, Gaussian
from volumes.sampling.examples import Examples
from volumes.sampling.scanner_noise import LowDose
from volumes.volume import Volume


@pytest.mark.parametrize("kind", kinds())
def test_crops_that_the_device_cuts_have_the_bits_of_those_of_the_host(cpu, kind):
    found = sha256(kinds()[kind], cpu.strategy, on_device=True)
    assert found == json.loads(KNOWN.read_text())[kind]


def test_every_value_of_int16_arrives_unchanged(cpu):
    hu = np.arange(-(2**15), 2**15).astype(np.int16).reshape(1, 256, 256)
    volume = Volume(hu, (1.0, 1.0, 1.0), "all", "")
    crop = Crop((1, 256, 256), 1.0, turns=True)
    examples = Examples([volume], crop, Gaussian(), None, seed=0)
    cache = DeviceCache(examples, cpu.strategy.extended.worker_devices)
    for i in range(8):
        found = cache.voxels([examples[i].clean], 0)
        assert found.dtype == "int16"
        np.testing.assert_array_equal(found[0], examples[i].clean.voxels())


def test_volumes_that_fill_more_than_half_of_the_memory_do_not_fit(cpu, volume, monkeypatch):
    examples = Examples([volume], Crop((4, 8, 8)), Gaussian(), None, seed=0)
    for free, fits in ((2 * volume.hu.nbytes, True), (2 * volume.hu.nbytes - 2, False)):
        monkeypatch.setattr(device_cache.memory, "free_bytes", lambda free=free: free)
        assert (too_large(examples) == "") == fits
    assert too_large(examples).startswith("its 0.00 GiB are more than half of the memory")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"crop": Crop((4, 8, 8), scales=(1.0, 0.5))}, "the recipe resamples crops"),
        ({"noise": LowDose(1e4)}, "the recipe simulates a scanner"),
    ],
)
def test_a_recipe_that_a_device_cannot_serve_is_refused(change, cause):
    from dataclasses import replace

    with pytest.raises(BadUsage, match=f"--cache device: has no use: {cause}"):
        check("device", replace(tiny(), **change))
    check("disk", replace(tiny(), **change))


def test_an_unknown_cache_is_refused_with_those_that_there_are(engine, dataset, tmp_path):
    words = ("fit", "unet3d", *shrinking(), "--data", dataset, "--run", tmp_path / "run")
    code, _, err = engine(*words, "--cache", "ram")
    assert code == 2
    assert "--cache: does not accept 'ram'. Use one of disk, device." in err


def test_a_training_from_the_device_has_the_bits_of_one_from_the_disk(
    engine, trained, dataset, tmp_path
):
    run = tmp_path / "run"
    words = ("fit", "unet3d", *shrinking(), "--data", dataset, "--run", run)
    assert engine(*words, "--cache", "device")[0] == 0
    found = [engine("info", folder)[1] for folder in (run, trained)]
    prints = [next(x for x in text.splitlines() if x.startswith("fingerprint")) for text in found]
    assert prints[0] == prints[1]


def test_a_data_set_that_does_not_fit_is_read_from_the_disk(engine, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(device_cache, "too_large", lambda examples: "it is large")
    words = ("fit", "unet3d", *shrinking(), "--data", dataset, "--run", tmp_path / "run")
    code, _, err = engine(*words, "--cache", "device")
    assert code == 0
    assert f"{dataset}: is read from the disk: it is large" in err
