"""Error messages and exit codes: one line on stderr for each error."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

STOPPED = "stopped: by Ctrl-C. Finished files are complete and stay."


def exit_code(error: BaseException) -> int:
    """Prints an error in one line on stderr, and returns the exit code of the contract."""
    from engine.recipe.recipe_code import raised_in
    from volumes.errors import Refusal
    from volumes.storage.atomic import cannot_write, is_full

    if isinstance(error, KeyboardInterrupt):
        return _refused(STOPPED, 130)
    if isinstance(error, Refusal):
        return _refused(str(error), error.exit_code)
    usage = getattr(error, "format_message", None)
    if usage is not None:  # typer's own: a wrong option or a missing argument
        message = usage().strip().rstrip(".")
        end = "" if message.endswith("?") else "."
        return _refused(f"{message}{end} See engine --help.", 2) if message else 2
    if isinstance(error, MemoryError):
        return _refused("memory: is used up. Use a smaller --tile or crop.", 7)
    if isinstance(error, OSError) and is_full(error):
        return exit_code(cannot_write(Path(error.filename or "disk"), error))
    if isinstance(error, OSError) and "temporary directory" in str(error):  # Python, matplotlib
        return _refused("temporary folder: cannot be written. Set TMPDIR to another one.", 4)
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        where = error.filename or "files"
        return _refused(f"{where}: too many are open. Raise the limit (ulimit -n).", 4)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return _refused(f"{error.filename}: is too long a name. Choose a shorter one.", 2)
    kind = type(error).__name__
    if kind == "ResourceExhaustedError":  # TensorFlow also raises it for a full disk
        from engine.training.out_of_memory import disk_full

        if full := disk_full(error):
            return exit_code(cannot_write(Path("disk"), full))
        return _refused("memory: the device has too little. Use a smaller --tile or crop.", 7)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    # TensorFlow says first where it was in the user's code, and last what happened.
    first = lines[-1 if lines[0] == "in user code:" else 0][:200].rstrip(".")
    if place := raised_in(error):
        return _refused(f"{place}: fails with {kind}: {first}. Correct it; --debug shows more.", 2)
    return _refused(f"{kind}: {first}. This is a bug; --debug shows where.", 1)


def _refused(message: str, code: int) -> int:
    print(f"engine: error: {message}", file=sys.stderr)
    return code
