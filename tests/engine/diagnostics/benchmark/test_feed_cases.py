import numpy as np
import pytest

from engine.diagnostics.benchmark.feed_cases import FeedCases, deep_enough
from volumes import Crop
from volumes.boxes import Box, read_box


@pytest.fixture(scope="module", params=[3, 20])
def cases(request, tmp_path_factory):
    found = FeedCases(tmp_path_factory.mktemp("feed"), request.param, Crop((4, 16, 16)))
    found.write(32)
    found.convert()
    return found


def test_the_scans_have_their_depth_and_differ(cases):
    assert len(cases.files) == len(cases.volumes) > 1
    assert {volume.hu.shape for volume in cases.volumes} == {(cases.depth, 32, 32)}
    assert len({volume.voxels_sha256 for volume in cases.volumes}) == len(cases.volumes)


def test_arrays_that_were_dropped_from_memory_hold_the_same_voxels(cases):
    before = {volume.hu.tobytes() for volume in cases.volumes}
    cases.forget()
    assert {volume.hu.tobytes() for volume in cases.volumes} == before


def test_a_plain_copy_has_the_voxels_of_the_crops(cases):
    examples = cases.examples(flips=False)
    alike = 0
    for i, (array, box) in enumerate(cases.prepared()):
        copied = array[box.slices]
        assert copied.shape == examples[i].hu.shape == (12, 16, 16)
        alike += np.array_equal(copied, examples[i].hu)
    assert alike > 0  # boxes beyond the ends of a deep scan are moved into it


def test_a_shallow_array_is_reflected_to_the_depth_of_a_box():
    hu = np.random.default_rng(0).integers(0, 99, (3, 4, 4))
    box = Box((-1, 1, 1), (5, 2, 2))
    deep, moved = deep_enough(hu, box)
    np.testing.assert_array_equal(deep[moved.slices], read_box(hu, box))
