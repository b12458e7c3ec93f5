"""Entry point of the command line."""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

# Each of these registers its commands, in the order of the help.
# isort: off
from engine.cli import fit, denoise, evaluate, characterize, card, data, export, machine  # noqa: F401

# isort: on
from engine import standard_streams
from engine.cli.app import app
from engine.cli.exit_code import STOPPED, exit_code
from engine.training.reader_threads import READER
from engine.training.signals import ends_soon

_PIPE_CLOSED = 141  # as for a process that SIGPIPE ends
_CTRL_C = 130


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and ends the process with the exit code of the contract."""
    standard_streams.prepare()
    # Figures go into files. A notebook names a backend that matplotlib may not find in its shell.
    os.environ["MPLBACKEND"] = "agg"
    with ends_soon(f"engine: error: {STOPPED}"):
        code = run(sys.argv[1:] if arguments is None else arguments)
    _exit(_told(standard_streams.unwritten()) if code == 0 else code)


def _exit(code: int) -> None:
    """Ends the process. A reader that hangs is left behind: it must not disturb the end."""
    if any(thread.name.startswith(READER) for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _told(error: OSError | None) -> int:
    """The exit code of a command whose work is done, but whose output could not be written."""
    from volumes.storage.atomic import cannot_write

    if error is None:
        return 0
    if isinstance(error, BrokenPipeError):
        return _PIPE_CLOSED
    return exit_code(cannot_write(Path("stdout"), error))


_HOME = re.compile(r"(?P<before>(^|^-\w|.*[=@]))(?P<path>~.*)", re.DOTALL)


def _at_home(word: str) -> str:
    """A word of the command line, with the home folder for a "~" that the shell left alone.

    Shells expand it at the beginning of a word only: not in --data=~/kits19 or spade@~/runs/unet2d.
    """
    found = _HOME.fullmatch(word)
    return found["before"] + os.path.expanduser(found["path"]) if found else word


def run(arguments: list[str]) -> int:
    """Runs a command; returns its exit code."""
    arguments = [_at_home(word) for word in arguments]
    try:
        result: Any = app(arguments, prog_name="engine", standalone_mode=False)
    except KeyboardInterrupt as error:
        return exit_code(error)
    except Exception as error:  # a refusal, a bug, or what typer and TensorFlow raise
        if "--debug" in arguments:
            traceback.print_exc()
        return exit_code(error)
    if result == _CTRL_C:  # typer has caught it
        return exit_code(KeyboardInterrupt())
    return result if isinstance(result, int) else 0
