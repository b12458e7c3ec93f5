"""What is promised of a training that was killed: the same bits as one that was not."""

import os
import random
import subprocess
import time
from pathlib import Path

from engine import checkpoint
from engine.run import Run
from tests.training import command, rows, train

# `ENGINE_KILLS=10 pytest tests/test_resume.py` is the long version.
KILLS = int(os.environ.get("ENGINE_KILLS", "3"))
STEPS = 30 * KILLS


def test_a_training_killed_at_random_moments_ends_with_the_same_bits(
    dataset: Path, tmp_path: Path
) -> None:
    moments = random.Random(0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(dataset, whole, f"steps={STEPS}")
    for _ in range(KILLS):
        _kill_while_training(dataset, killed, moments.uniform(0.05, 0.6))
    before = checkpoint.steps(Run(killed).checkpoints)
    assert before
    assert before[-1] < STEPS
    train(dataset, killed, f"steps={STEPS}")
    assert _last(killed) == _last(whole)
    assert rows(killed) == rows(whole)
    assert not list(Run(killed).checkpoints.glob("damaged-*"))


def _kill_while_training(data: Path, run: Path, after_s: float) -> None:
    """Kills a training some time after it has learned anything since it was started."""
    done = _size(run)
    process = subprocess.Popen(
        command(data, run, f"steps={STEPS}"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    while _size(run) == done:
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.01)
    time.sleep(after_s)
    process.kill()
    process.wait()
    process.stderr.close()
    assert process.returncode == -9


def _size(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.stat().st_size if metrics.exists() else 0


def _last(run: Path) -> str:
    return checkpoint.fingerprint(Run(run).checkpoint("last"))
