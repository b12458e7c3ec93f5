"""Errors for users: which file has a problem, what the problem is, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class Refusal(Exception):
    """A problem outside the program, described in one line: `<path>: <cause>. <remedy>`.

    The class sets the exit code of the command line.

    Example:
        >>> str(Refusal("scan.nii", "is empty", "Export it again"))
        'scan.nii: is empty. Export it again.'
    """

    exit_code = 1

    def __init__(self, path: str | Path, cause: str, remedy: str) -> None:
        self.path, self.cause, self.remedy = str(path), cause.rstrip("."), remedy.rstrip(".")
        end = "" if self.remedy.endswith("?") else "."
        super().__init__(one_line(f"{self.path}: {self.cause}. {self.remedy}{end}"))

    def _render_traceback_(self) -> list[str]:
        """The line that a notebook shows in place of a traceback; `%tb` still shows that."""
        return [f"{type(self).__name__}: {self}"]


def one_line(text: str) -> str:
    """The text on one line: control characters, which a file name may contain, become spaces."""
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else " " for c in text)


def listed(words: Sequence[str], between: str = ", ", most: int = 3) -> str:
    """The first words of a list and the number of the others: messages stay short.

    Example:
        >>> listed(["case_0", "case_1", "case_2", "case_3", "case_4"])
        'case_0, case_1, case_2, and 2 more'
    """
    more = len(words) - most
    return between.join(words[:most]) + (f"{between}and {more:,} more" if more > 0 else "")


class BadInput(Refusal):
    """An input file that cannot be used."""

    exit_code = 3


class LabelMap(BadInput):
    """A label map in place of a scan: no scan that could be repaired."""


class CannotWrite(Refusal):
    """An output that cannot be written: the disk is full or read-only, or the file exists."""

    exit_code = 4


class DiskFull(CannotWrite):
    """A disk that has no space left. Freeing space solves the problem."""
