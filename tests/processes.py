"""Trainings of several processes on this machine, one after the other.

TensorFlow is imported once, by a process that is forked for each of them: run as a program, this
file does as the lines on its standard input say.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

_LIMIT_S = 150.0  # of one training, on a busy machine


class Ended(NamedTuple):
    """How the processes of a training have ended, by rank."""

    codes: list[int]
    said: list[str]  # on stderr
    at_s: list[float]  # on one clock


class Processes:
    """Starts trainings, each of several processes. Close it at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._forked = subprocess.Popen(
            [sys.executable, "-m", "tests.processes"], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(
        self,
        count: int,
        command: list[str],
        sent: tuple[int, int, int] | None = None,
        after_s: float = 0.0,
    ) -> Ended:
        """Runs a command of the engine in several processes.

        Args:
            count: number of processes.
            command: its words.
            sent: (rank, signal, step): the process of this rank gets the signal in this step that
                it computes, counted from 1.
            after_s: from the beginning of this step to the signal.
        """
        asked = {
            "count": count, "command": command, "sent": sent, "after_s": after_s,
            "folder": str(self._folder),
        }  # fmt: skip
        assert self._forked.stdin is not None
        assert self._forked.stdout is not None
        self._forked.stdin.write(json.dumps(asked) + "\n")
        self._forked.stdin.flush()
        codes, at_s = json.loads(self._forked.stdout.readline())
        said = [(self._folder / f"stderr-{rank}").read_text() for rank in range(count)]
        return Ended(codes, said, at_s)

    def close(self) -> None:
        self._forked.communicate()


def free_ports(count: int) -> list[int]:
    """Ports at which nothing listens."""
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def tf_config(ports: list[int], rank: int) -> str:
    """The content of TF_CONFIG for a process of a cluster on this machine."""
    workers = [f"localhost:{port}" for port in ports]
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}})


def _started(asked: dict, ports: list[int], rank: int) -> int:
    """The number of a new process that runs a command, and writes on a file."""
    if process := os.fork():
        return process
    code = 1
    try:
        for number, name in ((1, "stdout"), (2, "stderr")):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(Path(asked["folder"]) / f"{name}-{rank}", flags), number)
        os.environ["TF_CONFIG"] = tf_config(ports, rank)
        if asked["sent"] is not None and asked["sent"][0] == rank:
            _signal_in_step(*asked["sent"][1:], asked["after_s"])
        from engine.cli.main import main

        try:
            main(asked["command"])
        except SystemExit as end:
            code = int(end.code or 0)
    finally:
        os._exit(code)


def _signal_in_step(number: int, step: int, after_s: float) -> None:
    from engine.training.step import TrainingStep

    call, steps = TrainingStep.__call__, iter(range(1, 1000))

    def sent(self, *given):
        if next(steps) == step:
            if after_s:
                threading.Timer(after_s, os.kill, (os.getpid(), number)).start()
            else:
                os.kill(os.getpid(), number)
        return call(self, *given)

    TrainingStep.__call__ = sent


def _ended(processes: list[int]) -> tuple[list[int], list[float]]:
    """The exit codes of processes, and when they ended. Those that do not end are killed."""
    codes: dict[int, int] = {}
    at_s: dict[int, float] = {}
    until = time.monotonic() + _LIMIT_S
    while len(codes) < len(processes):
        for process in processes:
            if process not in codes:
                found, status = os.waitpid(process, os.WNOHANG)
                if found:
                    codes[process] = os.waitstatus_to_exitcode(status)
                    at_s[process] = time.monotonic()
                elif time.monotonic() > until:
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    return [codes[process] for process in processes], [at_s[process] for process in processes]


def _serve() -> None:
    from engine import runtime

    runtime.tensorflow()
    for line in sys.stdin:
        asked = json.loads(line)
        ports = free_ports(asked["count"])
        print(json.dumps(_ended([_started(asked, ports, r) for r in range(asked["count"])])))
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
