"""The profile of a training step: the time of each kind of operation."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

# An operation is named "path/of/the/operation:Kind". Other events enclose operations.
_OPERATION = re.compile(r"^[\w/.-]+:(\w+)$")


def seconds_of_kinds(work: Callable[[], object]) -> Mapping[str, float]:
    """The seconds of TensorFlow's operations by kind, largest first, summed over threads.

    An operation of several threads counts as long as it runs, so that shares are those of the step
    if operations follow each other.

    Args:
        work: runs operations that have run before.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="engine-profile-") as folder:
        with tf.profiler.experimental.Profile(folder):
            work()
        (path,) = Path(folder).rglob("*.xplane.pb")
        return _kinds(path.read_bytes())


def _kinds(profile: bytes) -> Mapping[str, float]:
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space, found = xplane_pb2.XSpace(), Counter[str]()
    space.ParseFromString(profile)
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if match := _OPERATION.match(name):
                    found[match[1].removeprefix("_MklNative")] += event.duration_ps / 1e12
    return dict(found.most_common())
