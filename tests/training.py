"""Real trainings in processes of their own, small enough for a test."""

import json
import subprocess
import sys
from pathlib import Path

TINY = (
    "crop.shape=8,16,16", "network.width=2", "batch=2", "split.validation=1", "split.test=1",
    "learning_rate=1e-3", "validate_every=20", "checkpoint_every=5",
)  # fmt: skip


def command(data: Path, run: Path, *more: str, recipe: str = "respr_unet3d") -> list[str]:
    """The command line of a tiny training."""
    start = [sys.executable, "-m", "engine", "fit", recipe, *TINY]
    return [*start, "--data", str(data), "--run", str(run), "-q", *more]


def train(data: Path, run: Path, *more: str, recipe: str = "respr_unet3d") -> str:
    """Trains to the end; returns what was said on stderr."""
    line = command(data, run, *more, recipe=recipe)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def rows(run: Path) -> list[dict]:
    """The rows of metrics.jsonl without what a clock measured."""
    clock = {"seconds", "crops_per_second", "input_wait_fraction"}
    return [
        {name: value for name, value in json.loads(line).items() if name not in clock}
        for line in (run / "metrics.jsonl").read_text().splitlines()
    ]


def losses(run: Path) -> list[float]:
    """The loss of each step."""
    return [row["loss"] for row in rows(run) if "loss" in row]
