"""Read errors: why a file cannot be read, for its user."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from volumes.errors import BadInput

_MANY = (errno.EMFILE, errno.ENFILE)


def unreadable(path: Path, error: OSError) -> BadInput:
    """The BadInput for an operating system's error on reading."""
    if error.errno == errno.ENOENT and (link := _dangling(path)) is not None:
        return _of_a_link(path, link)
    cause = f"cannot be read: {error.strerror or error}"
    if error.errno in _MANY:
        return BadInput(path, cause, "Raise the limit on open files (ulimit -n)")
    return BadInput(path, cause, "Check its name and your permissions")


def _dangling(path: Path) -> Path | None:
    """The link on the way to a file that leads nowhere; None if there is none."""
    places = [path, *path.absolute().parents]
    return next((p for p in places if os.path.islink(p) and not os.path.exists(p)), None)


def _of_a_link(path: Path, link: Path) -> BadInput:
    target = os.readlink(link)
    what = "it is a link" if link == path else f"it is below the link {link}"
    remedy = "Restore that file, or remove the link"
    if "annex" in Path(target).parts:
        remedy = "Fetch it with `git annex get` or `datalad get`"
    return BadInput(path, f"cannot be read: {what} to a file that is not there, {target}", remedy)
