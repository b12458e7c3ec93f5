"""Commands of the engine, each in a process of its own that is cheap to make.

One process imports what every command imports before TensorFlow, and forks for each command: some
milliseconds instead of two seconds. The child has a limit on its memory and on its time, so that
what allocates or waits without bound fails the test instead of the machine.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        code: its exit code; below zero where a signal ended it.
        out, err: what it said.
        tensorflow: whether it imported TensorFlow.
    """

    code: int
    out: str
    err: str
    tensorflow: bool


class Commands:
    """Runs commands, one after the other."""

    def __init__(self, folder: Path, *, memory_bytes: int, seconds: int) -> None:
        """Starts the process that forks.

        Args:
            folder: for what the commands say.
            memory_bytes: that a command may ask for, above what the imports took.
            seconds: of processor and of clock that a command may take.
        """
        self._limits = json.dumps([str(folder), memory_bytes, seconds])
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Commands:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.gates.commands", self._limits],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._process is not None
        self._process.communicate()

    def run(self, arguments: Sequence[str | Path]) -> Outcome:
        """Runs one command."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(a) for a in arguments]) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))


def _serve(folder: Path, memory_bytes: int, seconds: int) -> None:
    # What is imported here is imported once for all.
    from engine.cli.main import run
    from engine.denoising import denoise_scans
    from tests.gates.catalogue import content

    assert denoise_scans
    (folder / "first.nii").write_bytes(content())
    with contextlib.redirect_stdout(io.StringIO()):
        run(["info", str(folder / "first.nii")])
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory_bytes
    said = [folder / name for name in ("out", "err", "tensorflow")]
    for line in sys.stdin:
        for path in said:
            path.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            _child(json.loads(line), most, seconds, said)
        _, status = os.waitpid(child, 0)
        out, err = (path.read_text(errors="surrogateescape") for path in said[:2])
        outcome = Outcome(os.waitstatus_to_exitcode(status), out, err, said[2].exists())
        print(json.dumps(outcome.__dict__), flush=True)


def _child(arguments: list[str], most: int, seconds: int, said: list[Path]) -> None:
    code = 99
    try:
        signal.alarm(seconds)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        for number, path in ((1, said[0]), (2, said[1])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        from engine.cli.main import main

        main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if "tensorflow" in sys.modules:
            said[2].touch()
        os._exit(code)


if __name__ == "__main__":
    place, bytes_, limit = json.loads(sys.argv[1])
    _serve(Path(place), bytes_, limit)
