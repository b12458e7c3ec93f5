"""G20: many scans, read, denoised and written at the same time: delays, Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from tests.engine.tiny import identity, scan_file, tiny, untrained
from tests.gates.ledger import Faults
from tests.gates.test_shards import OF_A_SCAN, files, finished
from tests.gates.trainings import PRELOADED, ended

SCANS = 24


def denoise(words: list[str], said: Path, seed: int) -> None:
    """The process: each stage is delayed at random, as by a slow disk or a busy processor."""
    from engine.cli.main import run
    from engine.denoising import finishing, pipeline, work
    from volumes.nifti import Scan

    with open(said, "wb", buffering=0) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    pipeline.processors = lambda: 4
    for owner, name in (
        (Scan, "loaded"),
        (finishing.Finishing, "finish"),
        (work, "write"),
    ):
        setattr(owner, name, _delayed(getattr(owner, name), random.Random(f"{seed}{name}")))
    code = run(["denoise", *words])
    sys.stdout.flush()
    beside = any(thread.name.endswith(("scans", "slabs")) for thread in threading.enumerate())
    os._exit(99 if beside else code)


def _delayed(function, chosen: random.Random):
    def delayed(*args, **options):
        time.sleep(chosen.choice((0, 0, 0.02, 0.06)))
        return function(*args, **options)

    return delayed


class Many:
    """A command for many scans of different sizes, one of them damaged."""

    def __init__(self, folder: Path, cpu: object) -> None:
        recipe = tiny("unet3d", "network.width=1", "network.levels=1")
        run = untrained(folder / "run", recipe, cpu, identity)
        self.said = folder / "said"
        rng = np.random.default_rng(0)
        (folder / "scans").mkdir()
        for i in range(SCANS):
            stored = rng.integers(-900, 300, (int(rng.integers(1, 12)), 32, 32), np.int16)
            path = scan_file(folder / "scans" / f"p{i:02d}.nii.gz", stored)
            if i == 5:
                path.write_bytes(path.read_bytes()[:-9])
        self.words = [str(folder / "scans"), "-m", str(run.folder), "--reproducible",
                      "--save-residual", "--tile", "4,32,32"]  # fmt: skip

    def start(self, out: Path, seed: int) -> BaseProcess:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        words = [*self.words, "-o", str(out)]
        process = context.Process(target=denoise, args=(words, self.said, seed))
        process.start()
        return process


@pytest.mark.gate("G20")
def test_delays_of_any_stage_change_no_byte_and_ctrl_c_leaves_whole_scans(
    cpu: object, tmp_path: Path, faults: Faults
) -> None:
    ours = Many(tmp_path, cpu)
    whole: dict[str, bytes] = {}
    for seed in range(faults.times(push=2, soak=20)):
        out = tmp_path / f"out{seed}"
        assert ended(ours.start(out, seed)) == 3, ours.said.read_text()
        whole = whole or files(out)
        assert files(out) == whole
        assert len(whole) == (SCANS - 1) * len(OF_A_SCAN)
        said = ours.said.read_text()
        assert f"{SCANS} scans: {SCANS - 1} done, 0 kept, 1 failed" in said
        shown = re.findall(r"p\d\d_denoised\.nii\.gz$", said, re.MULTILINE)
        assert shown == sorted(shown)
        faults.handled()
    out, chosen = tmp_path / "stopped", faults.random("ctrl-c")
    out.mkdir()
    for seed in range(faults.times(push=6, soak=60)):
        before, process = finished(out), ours.start(out, seed)
        until = time.monotonic() + 60
        while process.is_alive() and finished(out) == before and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(chosen.uniform(0, 0.15))
        with suppress(ProcessLookupError):  # it may have finished by now
            os.kill(process.pid or 0, signal.SIGINT)
        since = time.monotonic()
        code = ended(process)
        assert time.monotonic() - since < 5
        assert code == 130 or (code == 3 and len(files(out)) == len(whole)), ours.said.read_text()
        assert "Traceback" not in ours.said.read_text()
        found = files(out)
        assert not [name for name in found if name.endswith(".tmp")]
        assert found == {name: whole[name] for name in found}
        assert len(finished(out)) == len(found), "a scan without its residual or sidecar"
        faults.handled()
