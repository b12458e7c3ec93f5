from contextlib import ExitStack

import numpy as np
import pytest

from engine.diagnostics.benchmark import feed_ways
from engine.diagnostics.benchmark.feed_cases import FeedCases
from volumes import Crop

# MONAI warns of readers of other formats that lack their libraries.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module", params=[9, 20])
def cases(cpu, request, tmp_path_factory):
    found = FeedCases(tmp_path_factory.mktemp("feed"), request.param, Crop((4, 16, 16)))
    found.write(32)
    found.convert()
    return found


def test_every_way_takes_its_turns(cases):
    with ExitStack() as stack:
        for way in feed_ways.ways(cases, stack).values():
            for _ in range(2):
                way.turn()
            assert way.crops > 0


@pytest.mark.parametrize("kind", ["PersistentDataset", "CacheDataset"])
def test_monai_delivers_crops_of_the_scans(cases, kind):
    pytest.importorskip("monai")
    batch = next(feed_ways._monai(cases, kind))
    assert tuple(batch.shape) == (4, 1, 12, 16, 16)
    values = {int(v) for volume in cases.volumes for v in np.unique(volume.hu)}
    assert set(np.unique(batch.numpy()).tolist()) <= values


def test_torchio_delivers_crops_of_the_scans(cases):
    pytest.importorskip("torchio")
    batch = next(feed_ways._torchio(cases))
    assert tuple(batch.shape) == (2, 1, 12, 16, 16)
