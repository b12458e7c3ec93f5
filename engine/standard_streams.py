"""Standard streams: open, and able to take every text, whatever the process was started with."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import sys
from typing import Any, TextIO

_REPLACE = "engine.replace"


def open_descriptors() -> None:
    """Opens closed standard descriptors on /dev/null.

    Otherwise the next file that is opened gets the number of a closed one, and what a library
    prints goes into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
            os.set_inheritable(number, True)


def prepare() -> None:
    """Makes stdin, stdout and stderr usable: the first act of a command.

    Closed streams are opened on /dev/null. A character that the encoding of a stream lacks is
    written as a backslash escape, and a name that is not UTF-8 goes to stdout with its own bytes.
    An error of writing does not end the command: its files are written first, and `unwritten` tells
    of the error at the end.
    """
    open_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    codecs.register_error(_REPLACE, _bytes_or_escape)
    sys.stdout = _patient(sys.stdout, 1, _REPLACE)
    sys.stderr = _patient(sys.stderr, 2, "backslashreplace")


def unwritten() -> OSError | None:
    """The first error of writing to stdout since `prepare`."""
    sys.stdout.flush()
    output = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return output.failed if isinstance(output, _Output) else None


class _Output(io.FileIO):
    """A standard stream. What cannot be written is dropped, and the first error is kept."""

    failed: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # a pipe that does not block, and is full
        except OSError as error:
            self.failed = self.failed or error
            return memoryview(data).nbytes
        return int(written)


def _patient(stream: TextIO | None, number: int, errors: str) -> TextIO:
    """The stream of a standard descriptor; another stream, as in a test, is left alone."""
    if stream is not None and _number(stream) != number:
        return stream
    encoding = "utf-8" if stream is None else stream.encoding
    buffered = io.BufferedWriter(_Output(number, "w", closefd=False))
    lines = number == 2 or os.isatty(number)
    return io.TextIOWrapper(buffered, encoding=encoding, errors=errors, line_buffering=lines)


def _number(stream: TextIO) -> int | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return stream.fileno()
    return None


def _bytes_or_escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """The byte of a file's name that Python could not decode; else a backslash escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    error.end = error.start + 1
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)
