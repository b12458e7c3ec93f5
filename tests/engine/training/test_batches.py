import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from engine.training.reader_threads import READER, Readers
from tests.engine.training.batch_bits import KNOWN, kinds, mirrored, sha256
from volumes import Crop, Gaussian, NeighbourMean
from volumes.errors import BadInput
from volumes.sampling.examples import Examples

ONE, TWO = (SimpleNamespace(num_replicas_in_sync=n, cluster_resolver=None) for n in (1, 2))


@pytest.fixture
def feed(cpu):
    from engine.training.batches import feed

    return feed


@pytest.fixture
def examples(volume):
    return Examples(
        [volume], Crop((4, 8, 8)), Gaussian((0.05, 0.1)), NeighbourMean(2), seed=0
    )  # fmt: skip


class Watched:
    """Examples that note who was asked for, and fail or wait where they are told to."""

    def __init__(self, examples, *, bad=-1, seconds=0.0):
        self.examples, self.bad, self.seconds, self.asked = examples, bad, seconds, []

    @property
    def dtype(self):
        return self.examples.dtype

    def case(self, i):
        return self.examples.case(i)

    def __getitem__(self, i):
        self.asked.append(i)
        time.sleep(self.seconds)
        if i == self.bad:
            raise OSError("the disk is gone")
        return self.examples[i]


def shares(examples, strategy, step, batch=4):
    from engine.training.batches import Feed

    return Feed(examples, batch, strategy, Readers(0))._shares(step)


def gathered(feed, examples, strategy, start, stop, batch=2):
    with feed(examples, batch, strategy) as fed:
        return [[tensor.numpy() for tensor in given] for given in fed.batches(start, stop)]


def test_a_batch_holds_the_examples_of_its_step_in_order(cpu, feed, examples):
    found = gathered(feed, examples, cpu.strategy, 0, 3)
    assert len(found) == 3
    flips = set()
    for step, (hu, noisy_hu, flags, weights, sigma, spectrum, dose, keys, slices) in enumerate(
        found
    ):
        flips |= set(flags.tolist())
        assert noisy_hu.shape == (2, 0, *hu.shape[2:])  # it is simulated where the step runs
        for place in range(2):
            example = examples[2 * step + place]
            np.testing.assert_array_equal(mirrored(hu, flags)[place], example.hu)
            np.testing.assert_array_equal(weights[place], example.weights)
            np.testing.assert_array_equal(keys[place], example.key)
            np.testing.assert_array_equal(slices[place], example.slices)
            assert sigma[place] == np.float32(example.sigma)
            assert spectrum[place].size == 0  # it is white
            assert np.isnan(dose[place])  # white noise has none
    assert flips == {False, True}


def test_a_batch_has_the_types_that_the_step_is_traced_for(cpu, feed, examples):
    given = gathered(feed, examples, cpu.strategy, 0, 1)[0]
    assert [array.dtype for array in given] == [
        np.int16, np.int16, bool, np.float32, np.float32, np.float32, np.float32, np.int32,
        np.int32,
    ]  # fmt: skip


def test_the_parts_of_a_batch_hold_the_same_examples_for_any_number_of_replicas(cpu, examples):
    from engine.training.batches import Feed

    (one,), two = (
        Feed(examples, 12, strategy, Readers(0), parts=3)._shares(0) for strategy in (ONE, TWO)
    )
    for whole, *halves in zip(one, *two, strict=True):
        for part in range(3):
            shares = [half[2 * part : 2 * part + 2] for half in halves]
            np.testing.assert_array_equal(np.concatenate(shares), whole[4 * part : 4 * part + 4])


def test_two_replicas_share_the_batch_of_one(cpu, examples):
    (whole,) = shares(examples, ONE, 3)
    halves = shares(examples, TWO, 3)
    assert len(halves) == 2
    for one, *parts in zip(whole, *halves, strict=True):
        assert len(parts[0]) == len(parts[1]) == 2
        np.testing.assert_array_equal(np.concatenate(parts), one)


def test_a_feed_that_starts_in_the_middle_gives_the_tail(cpu, feed, examples):
    whole = gathered(feed, examples, cpu.strategy, 0, 7)
    tail = gathered(feed, examples, cpu.strategy, 5, 7)
    assert len(tail) == 2
    for one, other in zip(whole[5:], tail, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_steps_give_no_batches(cpu, feed, examples):
    assert gathered(feed, examples, cpu.strategy, 4, 4) == []


def test_an_error_of_a_reader_surfaces_at_its_batch(cpu, feed, examples):
    watched = Watched(examples, bad=9)
    with feed(watched, 2, cpu.strategy) as fed:
        coming = fed.batches(0, 100)
        good = [next(coming) for _ in range(4)]
        with pytest.raises(BadInput, match=r"phantom: cannot be read: the disk is gone\."):
            next(coming)
    assert len(good) == 4


def test_the_reading_threads_end_with_the_block(cpu, feed, examples):
    with feed(examples, 2, cpu.strategy) as fed:
        next(fed.batches(0, 100))
        during = [t for t in threading.enumerate() if t.name.startswith(READER)]
    assert during
    assert not any(thread.is_alive() for thread in during)


def test_no_more_is_read_than_the_next_few_batches(cpu, feed, examples):
    watched = Watched(examples)
    with feed(watched, 2, cpu.strategy) as fed:
        coming = fed.batches(10, 1000)
        next(coming)
        next(coming)
    assert min(watched.asked) == 20
    assert max(watched.asked) < 20 + 2 * 6


def test_nothing_is_read_beyond_the_last_step(cpu, feed, examples):
    watched = Watched(examples)
    with feed(watched, 2, cpu.strategy) as fed:
        assert len(list(fed.batches(0, 5))) == 5
    assert sorted(watched.asked) == list(range(10))


def test_the_time_that_the_training_waits_is_counted(cpu, feed, examples):
    with feed(Watched(examples, seconds=0.02), 2, cpu.strategy) as fed:
        next(fed.batches(0, 1))
        assert fed.waited_s >= 0.03


def test_a_volume_becomes_a_batch_of_one_with_one_channel(cpu, phantom_hu):
    from engine.inference.predictor import tensor

    found = tensor(phantom_hu.astype(np.float32))
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found.numpy()[0, ..., 0], phantom_hu)


def shared(tensor):
    """The memory of a tensor, as an array: `numpy()` copies it."""
    return np.asarray(memoryview(tensor))


# -- Bits and buffers ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", kinds())
def test_batches_have_the_bits_that_they_always_had(cpu, kind):
    assert sha256(kinds()[kind], cpu.strategy) == json.loads(KNOWN.read_text())[kind]


def test_voxels_are_not_copied_into_their_tensor(cpu, examples):
    from engine.training.batches import Feed

    fed = Feed(examples, 2, cpu.strategy, Readers(0))
    shares = fed._shares(0)
    batch = fed._distributed(shares)
    for tensor, array in zip(batch, shares[0], strict=True):
        assert not array.size or shared(tensor).ctypes.data == array.ctypes.data
    np.testing.assert_array_equal(batch.hu[1], examples[1].clean.voxels())


def test_a_tensor_that_is_kept_is_never_written_over(cpu, tf, feed, examples):
    """Fails if the memory of an array is free before the last tensor that shares it is gone."""
    uses = [
        lambda hu: hu,
        lambda hu: tf.reshape(hu, (-1,)),  # shares the memory of its input
        shared,
        lambda hu: shared(hu)[..., 1:],
    ]
    kept = {}
    with feed(examples, 2, cpu.strategy) as fed:
        for step, batch in enumerate(fed.batches(0, 60)):
            if step % 7 == 0:
                kept[step] = uses[step // 7 % len(uses)](batch.hu)
    for step, found in kept.items():
        expected = np.stack([examples[2 * step + k].clean.voxels() for k in range(2)])
        use = uses[step // 7 % len(uses)]
        np.testing.assert_array_equal(found, use(tf.constant(expected)))


def test_the_memory_of_batches_is_used_again(cpu, feed, examples):
    with feed(examples, 2, cpu.strategy) as fed:
        places = {shared(batch.hu).ctypes.data for batch in fed.batches(0, 60)}
    assert len(places) <= 6  # three are read ahead, one is in use, one is about to be free
