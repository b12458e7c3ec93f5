import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.gates.trainings import Aim, ended, start
from tests.training import TINY


def events(folder: Path):
    """All values that TensorBoard reads in a folder: tag, step and value."""
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                yield value.tag, event.step, value


def steps(folder: Path) -> dict[str, list[int]]:
    """The steps of each tag, in order; repeated ones, too."""
    found = {}
    for tag, step, _ in events(folder):
        found.setdefault(tag, []).append(step)
    return {tag: sorted(at) for tag, at in found.items()}


@pytest.fixture
def opened(cpu, tmp_path):
    """Opens the events of a folder, as a process does that continues after a step."""
    from engine.training.tensorboard import Events

    def make(step, **options):
        return Events(tmp_path / "events", step, pytest.fail, **options)

    return make


def filled(events, first, last):
    for step in range(first, last + 1):
        events.histograms(step, {"weights/a": np.arange(5.0)})
        events.scalars(step, {"training/loss": 1.0 / step})
        if step % 2 == 0:
            events.scalars(step, {"validation/psnr_db": 30.0})
            events.picture(step, "validation", b"png")
    events.close()


def test_a_resumed_training_draws_each_step_once(opened, tmp_path):
    filled(opened(-1), 1, 6)
    filled(opened(3), 4, 7)
    filled(opened(5), 6, 8)
    found = steps(tmp_path / "events")
    assert found["training/loss"] == found["weights/a"] == [*range(1, 9)]
    assert found["validation/psnr_db"] == found["validation"] == [2, 4, 6, 8]


def test_a_training_that_starts_anew_draws_nothing_of_before(opened, tmp_path):
    filled(opened(-1), 1, 6)
    filled(opened(-1), 1, 2)
    assert steps(tmp_path / "events")["training/loss"] == [1, 2]
    assert len(list((tmp_path / "events").iterdir())) == 1


def test_a_validation_that_is_repeated_is_drawn_once(opened, tmp_path):
    filled(opened(-1), 1, 4)
    again = opened(4, unvalidated=True)
    again.scalars(4, {"validation/psnr_db": 30.0})
    again.picture(4, "validation", b"png")
    again.close()
    found = steps(tmp_path / "events")
    assert found["validation/psnr_db"] == found["validation"] == [2, 4]
    assert found["training/loss"] == [1, 2, 3, 4]


@pytest.mark.parametrize("harm", ["cut short", "altered"])
def test_a_file_is_cut_where_an_event_is_incomplete_or_damaged(opened, tmp_path, harm):
    filled(opened(-1), 1, 3)
    (path,) = (tmp_path / "events").iterdir()
    whole = path.read_bytes()
    at = len(whole) - 20
    path.write_bytes(whole[:at] if harm == "cut short" else whole[:at] + b"\xff" * 20)
    filled(opened(3), 4, 5)
    assert steps(tmp_path / "events")["training/loss"] == [1, 2, 4, 5]


READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

read = EventAccumulator(sys.argv[1], {"histograms": 0, "images": 0})
read.Reload()
scalars = {tag: [at.step for at in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
histograms = {tag: [at.histogram_value.num for at in read.Histograms(tag)]
              for tag in read.Tags()["histograms"]}
print(json.dumps([scalars, histograms, [at.step for at in read.Images("validation")]]))
"""


def test_tensorboard_itself_reads_the_files(opened, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    filled(opened(-1), 1, 6)
    filled(opened(3), 4, 5)
    line = [sys.executable, "-c", READ, str(tmp_path / "events")]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    scalars, histograms, images = json.loads(done.stdout)
    assert scalars == {"training/loss": [1, 2, 3, 4, 5], "validation/psnr_db": [2, 4]}
    assert histograms == {"weights/a": [5.0] * 5}
    assert images == [2, 4]


def test_a_histogram_counts_every_finite_value(opened, tmp_path):
    values = np.array([[0.0, 1.0, 1.0], [np.nan, 4.0, np.inf]], np.float32)
    ours = opened(-1)
    ours.histograms(1, {"weights/a": values, "weights/none": values[1, 2:]})
    ours.close()
    ((tag, _, value),) = events(tmp_path / "events")
    assert tag == "weights/a"
    assert (value.histo.num, value.histo.min, value.histo.max) == (4, 0.0, 4.0)
    assert (value.histo.sum, value.histo.sum_squares) == (6.0, 18.0)
    assert sum(value.histo.bucket) == 4
    assert value.histo.bucket_limit[-1] == 4.0


def test_a_killed_run_that_is_resumed_draws_one_line(cpu, dataset, tmp_path):
    run = tmp_path / "run"
    words = ["unet3d", *TINY, "steps=30", "validate_every=20", "checkpoint_every=30",
             "validate_slices=2", "--data", str(dataset), "--run", str(run), "-q",
             "--histograms", "3"]  # fmt: skip
    aim = Aim("engine.training.saver.Saver.save", 1)  # after the validation of step 30
    assert ended(start(words, tmp_path / "cache", tmp_path / "said", aim)) == -9
    before = steps(run / "tensorboard")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000020"]
    assert before["training/loss"] == [10, 20, 30]
    assert before["validation"] == [20, 30]
    assert ended(start(words, tmp_path / "cache", tmp_path / "said")) == 0
    found = steps(run / "tensorboard")
    for tag, at in found.items():
        assert set(Counter(at).values()) == {1}, tag
    assert found == before
