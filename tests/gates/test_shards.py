"""G19: many scans in shards, whose processes are killed and started again."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.engine.tiny import identity, scan_file, tiny, untrained
from tests.gates import batches
from tests.gates.ledger import Faults
from tests.gates.trainings import ended

SCANS, SHARDS = 100, 4
KINDS = ("open", "write", "fsync", "rename")
OF_A_SCAN = ("denoised.nii.gz", "denoised.json", "residual.nii.gz")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes with a file, for the files of each scan that is complete."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for scan in folder.glob("*_denoised.nii.gz")
        for name in OF_A_SCAN
        for path in [scan.with_name(scan.name.replace("denoised.nii.gz", name))]
    }


class Shards:
    """A command for many scans, in shards."""

    def __init__(self, folder: Path, cpu: object) -> None:
        recipe = tiny("unet3d", "network.width=1", "network.levels=1")
        run = untrained(folder / "run", recipe, cpu, identity)
        self.whole, self.out = folder / "whole", folder / "out"
        self.said = folder / "said"
        rng = np.random.default_rng(0)
        (folder / "scans").mkdir()
        for i in range(SCANS):
            shape = (int(rng.integers(1, 6)), 16, 16)
            stored = rng.integers(-900, 300, shape, np.int16)
            scan_file(folder / "scans" / f"p{i % 7}_{i:03d}.nii.gz", stored)
        self.words = [str(folder / "scans"), "-m", str(run.folder), "--reproducible",
                      "--save-residual"]  # fmt: skip

    def run(self, out: Path, shard: int | None = None, kill: tuple[str, int] | None = None) -> int:
        words = [*self.words, "-o", str(out)]
        words += ["--shard", f"{shard}/{SHARDS}"] if shard else []
        return ended(batches.start(words, out, self.said, kill))

    def run_for(self, shard: int, seconds: float) -> int:
        """Kills a shard some time after it began to write."""
        words = [*self.words, "-o", str(self.out), "--shard", f"{shard}/{SHARDS}"]
        before, process = finished(self.out), batches.start(words, self.out, self.said)
        while process.is_alive() and finished(self.out) == before:
            time.sleep(0.002)
        time.sleep(seconds)
        process.kill()
        return ended(process)


@pytest.mark.gate("G19")
def test_shards_that_are_killed_write_the_files_of_one_command(
    cpu: object, tmp_path: Path, faults: Faults
) -> None:
    ours = Shards(tmp_path, cpu)
    assert ours.run(ours.whole) == 0, ours.said.read_text()
    whole = files(ours.whole)
    assert len(whole) == SCANS * len(OF_A_SCAN)
    ours.out.mkdir()
    random = faults.random("shards")
    kills = faults.times(push=6, soak=60)
    for i in range(kills):
        shard, before = 1 + i % SHARDS, finished(ours.out)
        if i % 5 == 4:
            code = ours.run_for(shard, random.uniform(0, 0.05))
        else:  # in one of the next scans, so that some are left for the next kill
            code = ours.run(ours.out, shard, (random.choice(KINDS), random.randrange(6)))
        assert code == -9, ours.said.read_text()
        after = finished(ours.out)
        assert after == after | before, "a finished file was written again"
        for name in after:
            assert (ours.out / name).read_bytes() == whole[name], name
        faults.handled()
    kept = finished(ours.out)
    counts = Counter[str]()
    for shard in range(1, SHARDS + 1):
        assert ours.run(ours.out, shard) == 0, ours.said.read_text()
        said = re.search(r"25 scans: (\d+) done, (\d+) kept, 0 failed\n", ours.said.read_text())
        assert said, ours.said.read_text()
        counts += Counter({"done": int(said[1]), "kept": int(said[2])})
    assert files(ours.out) == whole
    assert finished(ours.out) == finished(ours.out) | kept
    assert counts["kept"] == len(kept) // len(OF_A_SCAN)
    assert counts["done"] == SCANS - counts["kept"]
    shutil.rmtree(ours.out)
