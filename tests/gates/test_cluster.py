"""G21: trainings of several processes, of which one is killed."""

import signal
from pathlib import Path

import numpy as np
import pytest

from engine.runs.run import Run
from tests.gates.ledger import Faults
from tests.processes import Processes
from tests.test_cluster import OPTIONS
from tests.training import command, losses

LIMIT_S = 60.0


def weights(run: Path) -> dict[str, np.ndarray]:
    with np.load(Run(run).checkpoint("last") / "state.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith("model/")}


@pytest.mark.gate("G21")
def test_a_process_that_is_killed_ends_the_others_and_another_number_resumes(
    dataset: Path, tmp_path: Path, faults: Faults
) -> None:
    kills, random = faults.times(push=1, soak=10), faults.random("processes")
    whole, run = tmp_path / "whole", tmp_path / "run"
    steps = 4 * (kills + 1)  # the sums of several processes round apart, and more with every step

    def words(run: Path) -> list[str]:
        return command(dataset, run, *OPTIONS, "--steps", f"{steps}", recipe="dncnn")[3:]

    count, waited_s = 3, list[float]()
    processes = Processes(tmp_path)
    try:
        assert processes.run(1, words(whole)).codes == [0]
        for _ in range(kills):
            killed, step = random.randrange(count), random.randint(1, 3)
            sent = (killed, signal.SIGKILL, step)
            ended = processes.run(count, words(run), sent, after_s=random.uniform(0, 0.05))
            assert ended.codes[killed] == -signal.SIGKILL, ended.said
            assert set(ended.codes) == {75, -signal.SIGKILL}, ended.said
            told = ended.said[0 if killed else 1]
            assert "has died, and ends this training. Run the same command to resume." in told
            waited_s.append(max(ended.at_s) - ended.at_s[killed])
            count = 5 - count
        count = random.choice([1, count])
        ended = processes.run(count, words(run))
    finally:
        processes.close()
    assert ended.codes == [0] * count, ended.said
    assert max(waited_s) < LIMIT_S
    one, other = losses(whole), losses(run)
    assert len(one) == len(other) == steps
    arrays = [(array, weights(run)[name]) for name, array in weights(whole).items()]
    apart = {
        "losses": np.abs(np.subtract(one, other)).max(),
        "weights": max(np.abs(a - b).max() for a, b in arrays),
    }
    print("seconds until the others had ended:", waited_s, "largest differences:", apart)  # -s
    assert max(apart.values()) <= 1e-5, apart
    faults.handled(kills)
