import json

import pytest

from engine.errors import BadUsage
from engine.training.seat import Seat, seat

SLURM = {
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "SLURM_JOB_ID": "100", "SLURM_STEP_ID": "1",
    "SLURM_STEP_NODELIST": "gpu[007-008,12]-ib,fat1", "SLURMD_NODENAME": "gpu008-ib",
}  # fmt: skip


def test_a_step_of_slurm_seats_its_tasks() -> None:
    assert seat(SLURM) == Seat(
        2, 4, ("gpu007-ib", 12_101), ("gpu008-ib", 0), ("task 0", "task 1", "task 2", "task 3")
    )


def test_a_batch_script_and_a_step_of_one_task_train_alone() -> None:
    assert seat({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None
    assert seat({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}) is None


def test_a_chief_of_tf_config_comes_before_its_workers() -> None:
    config = {
        "cluster": {"chief": ["a:1"], "worker": ["b:2", "c:3"]},
        "task": {"type": "worker", "index": 1},
    }
    found = seat({"TF_CONFIG": json.dumps(config)})
    assert found == Seat(2, 3, ("a", 1), ("c", 3), ("a:1", "b:2", "c:3"))


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"cluster": {"worker": ["a:1", "b"]}}', '{"cluster": {"ps": ["a:1"]}}',
             '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}'],
)  # fmt: skip
def test_a_tf_config_that_names_no_place_is_refused(text: str) -> None:
    with pytest.raises(BadUsage, match="TF_CONFIG: names no place in a cluster"):
        seat({"TF_CONFIG": text})
