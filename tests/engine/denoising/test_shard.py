import random
from pathlib import Path

import pytest

from engine.denoising.shard import Shard
from engine.errors import BadUsage
from tests.engine.fresh import fresh

SCANS = [Path(f"scans/p{i % 7}_{i:03d}.nii.gz") for i in range(100)]


def of(shard, scans):
    return {scans[i] for i in shard.positions(scans)}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 99, 100, 101, 250])
def test_every_scan_is_in_one_shard_and_no_shard_is_two_larger_than_another(count):
    shards = [Shard(k, count).positions(SCANS) for k in range(1, count + 1)]
    assert sorted(i for shard in shards for i in shard) == list(range(len(SCANS)))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_the_order_in_which_a_shell_lists_the_scans_does_not_matter():
    shuffled = random.Random(0).sample(SCANS, len(SCANS))
    for k in range(1, 5):
        assert of(Shard(k, 4), shuffled) == of(Shard(k, 4), SCANS)


def test_the_place_where_a_machine_mounts_the_scans_does_not_matter():
    elsewhere = [Path("/mnt/node7") / path for path in SCANS]
    assert Shard(2, 3).positions(elsewhere) == Shard(2, 3).positions(SCANS)


def test_scans_with_neighbouring_names_are_spread():
    patient = {path for path in SCANS if path.name.startswith("p3")}
    shares = [len(of(Shard(k, 4), SCANS) & patient) for k in range(1, 5)]
    assert max(shares) - min(shares) <= 1


def test_a_single_shard_is_everything_in_the_order_of_the_command():
    assert Shard(1, 1).positions(SCANS[::-1]) == list(range(len(SCANS)))


def test_shards_are_counted_from_one():
    assert Shard.parse("1/1") == Shard(1, 1)
    assert Shard.parse("16/16") == Shard(16, 16)


@pytest.mark.parametrize(
    "text",
    ["0/4", "5/4", "x", "", "/", "3", "3/", "/4", "1/0", "0/0", "-1/4", "1/-4", "1.0/4", " 1/4",
     "1/4 ", "1/4/2", "1\n/4", "1/4\n", "\u0661/\u0664", "1e0/4", "$SLURM_ARRAY_TASK_ID/16",
     "9" * 5000 + "/1"],
)  # fmt: skip
def test_no_other_text_is_a_shard(text):
    with pytest.raises(BadUsage, match="--shard"):
        Shard.parse(text)


def test_a_wrong_shard_is_refused_before_tensorflow_is_imported(unet_run, phantom_file):
    ended = fresh("denoise", phantom_file, "-m", unet_run, "--shard", "5/4")
    assert (ended.code, ended.slow) == (2, set())
    assert "engine: error: --shard: takes K/N with K from 1 to N, not '5/4'" in ended.err
