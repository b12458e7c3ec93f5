"""Shadowing: files of the user that hide a package of the engine.

Python searches the current folder first, in `python -m` and in notebooks.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_IMPORTED = ("volumes",)


def refuse_shadowed() -> None:
    """Refuses to start if Python finds another `volumes` than that of the engine.

    Raises:
        ImportError: in one line, with the file that hides the package and the remedy.
        SystemExit: with exit code 2 after that line on stderr, in a command.
    """
    for name in _IMPORTED:
        hiding = _found(name)
        if hiding is None or hiding == _ROOT / name / "__init__.py":
            continue
        place = hiding.parent if hiding.name == "__init__.py" else hiding
        message = (
            f"{place}: hides the package {name!r} of the engine. Rename it, or start Python in "
            "another folder."
        )
        if _is_command():
            print(f"engine: error: {message}", file=sys.stderr)
            raise SystemExit(2)
        raise ImportError(message, name=name, path=str(hiding))


def _found(name: str) -> Path | None:
    """The file that is imported under a name; None if there is none."""
    known = sys.modules.get(name)
    if known is not None:
        file = getattr(known, "__file__", None)
    else:
        spec = importlib.util.find_spec(name)
        file = spec.origin if spec else None
    return Path(file).resolve() if file else None


def _is_command() -> bool:
    """Whether the process is `python -m engine`, which Python still looks for, or `engine`."""
    return sys.argv[:1] == ["-m"] or Path(sys.argv[0] if sys.argv else "").name == "engine"
