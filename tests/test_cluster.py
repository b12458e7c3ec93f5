"""What is promised of several processes: the training of one, which any number of them resumes."""

import signal
from pathlib import Path

import pytest

from engine.checkpoints import checkpoint
from tests.processes import Processes
from tests.training import command, losses, rows

OPTIONS = ("network.depth=4", "batch=6", "average=0.9", "validate_every=6", "checkpoint_every=2")


def test_three_two_and_one_process_continue_one_training(dataset: Path, tmp_path: Path) -> None:
    def words(run: str) -> list[str]:
        return command(dataset, tmp_path / run, *OPTIONS, "--steps", "8", recipe="dncnn")[3:]

    run = tmp_path / "run"
    processes = Processes(tmp_path)
    try:
        alone = processes.run(1, words("alone"))
        # A request to a worker stops all after one step.
        stopped = processes.run(3, words("run"), (2, signal.SIGTERM, 3))
        at = checkpoint.steps(run / "checkpoints")[-1]
        ended = processes.run(2, words("run"))
    finally:
        processes.close()

    assert alone.codes == [0], alone.said
    assert stopped.codes == [75] * 3, stopped.said
    again = f"engine: error: {run}: stopped at step {at} by SIGTERM. Run the same command to resume"
    assert again in stopped.said[0]
    assert stopped.said[1:] == ["", ""]
    assert 3 <= at <= 4
    assert ended.codes == [0, 0], ended.said
    assert ended.said[1] == ""
    assert losses(run) == pytest.approx(losses(tmp_path / "alone"), rel=0, abs=1e-5)
    assert len(losses(run)) == 8
    one, several = (
        [row["mean"]["mse"] for row in rows(tmp_path / name) if row.get("method") == "network"]
        for name in ("alone", "run")
    )
    assert several == pytest.approx(one, rel=1e-3)
