"""Refusals: errors that tell a person what is wrong with which file and what to do."""

from __future__ import annotations

from pathlib import Path


class Refusal(Exception):
    """A problem outside the program, told in one line: `<path>: <cause>. <remedy>`.

    Every kind has the exit code that the command line ends with.
    """

    exit_code = 1

    def __init__(self, path: str | Path, cause: str, remedy: str) -> None:
        self.path, self.cause, self.remedy = str(path), cause.rstrip("."), remedy.rstrip(".")
        end = "" if self.remedy.endswith("?") else "."
        super().__init__(one_line(f"{self.path}: {self.cause}. {self.remedy}{end}"))


def one_line(text: str) -> str:
    """The text without what a file's name may hold to break a line or to command a terminal."""
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else " " for c in text)


class BadInput(Refusal):
    """A file that cannot be used as it is."""

    exit_code = 3


class CannotWrite(Refusal):
    """A place that does not take the output: full, read-only, or already occupied."""

    exit_code = 4


class DiskFull(CannotWrite):
    """A place that took output before and has no room left: what frees some mends it."""
