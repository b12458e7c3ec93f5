"""Commands of `engine denoise` that tests kill, forked from a process that has what is slow."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.gates.disk import Disk, Operation, sending
from tests.gates.trainings import PRELOADED


def denoise(words: list[str], out: Path, said: Path, kill: tuple[str, int] | None) -> None:
    """The process of `engine denoise`.

    Args:
        words: of the command line.
        out: the folder of its outputs.
        said: takes what it says.
        kill: the kind of operation on the disk at which it is killed, and how many are let pass.
    """
    from engine.cli.main import run

    with open(said, "wb", buffering=0) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    kind, left = kill or ("", 0)

    def strike(_: int, operation: Operation) -> Callable[[], None] | None:
        nonlocal left
        left -= operation.kind == kind
        return sending(signal.SIGKILL) if left < 0 else None

    with Disk(out, strike).watched():
        code = run(["denoise", *words])
    sys.stdout.flush()
    os._exit(code)


def start(
    words: list[str], out: Path, said: Path, kill: tuple[str, int] | None = None
) -> BaseProcess:
    """Starts the process; it has imported what takes long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    started = context.Process(target=denoise, args=(words, out, said, kill))
    started.start()
    return started
