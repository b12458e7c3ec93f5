"""The seat of a process in a cluster: what TF_CONFIG or the variables of srun say about it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from typing import NamedTuple

from engine.errors import BadUsage
from volumes.storage.json_files import parse_json

_FIRST_PORT, _PORTS = 12_000, 16_000  # below those that systems give to clients


class Seat(NamedTuple):
    """The place of this process in a cluster.

    Attributes:
        rank: of this process; 0 is the chief.
        size: number of processes.
        chief: (host, port) where the chief waits for the others.
        own: (host, port) for TensorFlow. Port 0 stands for any free one.
        names: of the processes by rank, for messages.
    """

    rank: int
    size: int
    chief: tuple[str, int]
    own: tuple[str, int]
    names: tuple[str, ...]


def seat(environment: Mapping[str, str] = os.environ) -> Seat | None:
    """The seat that TF_CONFIG or the variables of srun give this process; None if it trains alone.

    A step of Slurm with one task is no cluster, nor is a batch script outside of srun.

    Raises:
        BadUsage: if they are contradictory.

    Example:
        >>> seat({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_JOB_ID": "7",
        ...       "SLURM_STEP_NODELIST": "gpu[03-04]", "SLURMD_NODENAME": "gpu04"})
        Seat(rank=1, size=2, chief=('gpu03', 12007), own=('gpu04', 0), names=('task 0', 'task 1'))
    """
    if "TF_CONFIG" in environment:
        return _of_tf_config(environment["TF_CONFIG"])
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return _of_slurm(environment)
    return None


def _of_tf_config(text: str) -> Seat | None:
    try:
        config = parse_json(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        kinds = [kind for kind in ("chief", "worker") if cluster.get(kind)]
        if len(kinds) < len(cluster):
            raise ValueError("it names other tasks than chief and worker")
        names = [name for kind in kinds for name in cluster[kind]]
        if len(names) < 2:
            return None
        rank = int(task["index"])
        if task["type"] == "worker" and "chief" in kinds:
            rank += len(cluster["chief"])
        addresses = [_address(name) for name in names]
        own = addresses[rank]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        remedy = "See engine/README.md, or unset it to train in one process"
        raise BadUsage("TF_CONFIG", f"names no place in a cluster ({error})", remedy) from error
    return Seat(rank, len(names), addresses[0], own, tuple(names))


def _address(name: str) -> tuple[str, int]:
    host, _, port = name.rpartition(":")
    return host, int(port)


def _of_slurm(environment: Mapping[str, str]) -> Seat:
    try:
        size, rank = int(environment["SLURM_STEP_NUM_TASKS"]), int(environment["SLURM_PROCID"])
        # Task 0 runs on the first node: of gpu[03-05,7],x1 that is gpu03.
        first = re.sub(r"\[(\d+)[^\]]*\]", r"\1", environment["SLURM_STEP_NODELIST"]).split(",")[0]
        job = int(environment["SLURM_JOB_ID"]) + int(environment.get("SLURM_STEP_ID", "0"))
    except (KeyError, ValueError) as error:
        remedy = "Start `engine fit` by srun, or set TF_CONFIG"
        raise BadUsage("SLURM_STEP_NUM_TASKS", f"is set, but not {error}", remedy) from error
    host = environment.get("SLURMD_NODENAME") or platform.node()
    names = tuple(f"task {number}" for number in range(size))
    return Seat(rank, size, (first, _FIRST_PORT + job % _PORTS), (host, 0), names)
