"""A command in a process of its own, which shows what it imports."""

import subprocess
import sys
from typing import NamedTuple

SLOW = ("tensorflow", "keras", "scipy.ndimage", "matplotlib")
_PROGRAM = """
import sys
from engine.cli.main import run
code = run(sys.argv[1:])
print("", code, *sys.modules, sep="\\n")
"""


class Fresh(NamedTuple):
    """How a command ended, what it imported of what is slow to import, and what it said."""

    code: int
    slow: set[str]
    err: str


def fresh(*words: object) -> Fresh:
    """Runs `engine` with these words."""
    line = [sys.executable, "-c", _PROGRAM, *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    _, _, said = done.stdout.rpartition("\n\n")
    code, *modules = said.split()
    return Fresh(int(code), set(SLOW) & set(modules), done.stderr)
