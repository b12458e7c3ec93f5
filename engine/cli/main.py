"""Entry point of the command line."""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import Any

# Each of these registers its commands, in the order of the help.
# isort: off
from engine.cli import fit, denoise, evaluate, data, machine  # noqa: F401

# isort: on
from engine.cli.app import app
from engine.cli.exit_code import exit_code

_PIPE_CLOSED = 141  # as for a process that SIGPIPE ends
_CTRL_C = 130


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and ends the process with the exit code of the contract."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names are bytes
    sys.exit(run(arguments))


def run(arguments: list[str]) -> int:
    """Runs a command; returns its exit code."""
    try:
        result: Any = app(arguments, prog_name="engine", standalone_mode=False)
    except KeyboardInterrupt as error:
        return exit_code(error)
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the remaining output is dropped
        return _PIPE_CLOSED
    except Exception as error:  # a refusal, a bug, or what typer and TensorFlow raise
        if "--debug" in arguments:
            traceback.print_exc()
        return exit_code(error)
    if result == _CTRL_C:  # typer has caught it
        return exit_code(KeyboardInterrupt())
    return result if isinstance(result, int) else 0
