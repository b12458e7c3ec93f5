"""The journal: what a run says while it goes, to people and to metrics.jsonl."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from volumes import document
from volumes.atomic import cannot_write, is_full
from volumes.refusals import Refusal, one_line
from volumes.volume import Odd

_SHOW_EVERY_S = 0.2
_TABLE_COLUMNS = 100


class Terminal:
    """What the engine says to people: results on stdout, the rest on stderr."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self._doubted: set[str] = set()
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A line for the person who waits; -q silences it."""
        if not self.quiet:
            self._err.print(text, markup=False)

    def detail(self, text: str) -> None:
        """A line for -v."""
        if self.verbose:
            self.say(text)

    def warn(self, text: str) -> None:
        """A line that -q does not silence."""
        self._err.print(one_line(f"engine: warning: {text}"), markup=False)

    def doubt(self, odd: Odd) -> None:
        """What is odd about files, a line each; nothing is said twice."""
        for line in (f"{path}: {words}" for path in odd for words in odd[path]):
            if line not in self._doubted:
                self._doubted.add(line)
                self.warn(line)

    def refusal(self, refusal: Refusal) -> None:
        """A refusal that does not end the command."""
        self._err.print(f"engine: error: {refusal}", markup=False)

    def result(self, text: str) -> None:
        """A line of the result, on stdout."""
        print(text, flush=True)

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """A table of results, on stdout."""
        table = Table(title=title, title_justify="left", box=SIMPLE)
        for i, column in enumerate(columns):
            # Numbers stay whole; a name that is too long for the terminal is folded, not cut.
            if i:
                table.add_column(column, justify="right", no_wrap=True)
            else:
                table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row)
        # A pipe gets the whole table, whatever width a terminal would have; a terminal that is too
        # narrow wraps lines, which loses nothing, where rich would cut numbers.
        width = max(Console().width, _TABLE_COLUMNS) if sys.stdout.isatty() else 1000
        # Without a height rich would take 80 columns where TERM=dumb.
        Console(highlight=False, width=width, height=25).print(table)

    @contextmanager
    def progress(self, what: str, total: int, done: int = 0) -> Iterator[Bar]:
        """A progress bar; it vanishes where stderr is no terminal."""
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
        )  # fmt: skip
        hidden = self.quiet or not sys.stderr.isatty()
        with Progress(*columns, console=self._err, disable=hidden, transient=True) as progress:
            yield Bar(progress, progress.add_task(what, total=total, completed=done, note=""))


class Bar:
    """One progress bar."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task, self._shown = progress, task, 0.0

    def at(self, done: int, note: str = "") -> None:
        """Shows how much is done; not more often than an eye can follow."""
        now = time.monotonic()
        if now - self._shown >= _SHOW_EVERY_S or self._progress.tasks[0].total == done:
            self._progress.update(self._task, completed=done, note=note)
            self._shown = now


class Metrics:
    """metrics.jsonl: a row a step, in order, none twice, none torn.

    Rows that a full disk does not take are held until it does; `sync` says so where it still does
    not.
    """

    def __init__(self, path: Path, step: int, warn: Callable[[str], None] = lambda _: None) -> None:
        """Opens the file to go on after a step; rows of later steps, of a lost stretch, go.

        Args:
            path: of the file.
            step: that the training goes on from.
            warn: is told what is no row, and kept.

        Raises:
            CannotWrite: where the system refuses.
        """
        self._path, self._held = path, b""
        try:
            self._drop_after(path, step, warn)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed by `close`)
            self._end = self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise cannot_write(path, error) from error

    def row(self, **values: Any) -> None:
        """Adds a row.

        Raises:
            CannotWrite: where the system refuses for another reason than a full disk.
        """
        self._held += (json.dumps(strict(values), allow_nan=False) + "\n").encode()
        try:
            self._write()
        except OSError as error:
            if not is_full(error):
                raise cannot_write(self._path, error) from error

    def sync(self) -> None:
        """Makes all rows so far survive whatever comes.

        Raises:
            DiskFull: where the disk does not take them; they are held.
            CannotWrite: where the system refuses for another reason.
        """
        try:
            self._write()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _write(self) -> None:
        """Writes what is held; a row that is only partly taken is taken back."""
        rest = memoryview(self._held)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise
        self._end, self._held = self._end + len(self._held), b""

    @staticmethod
    def _drop_after(path: Path, step: int, warn: Callable[[str], None]) -> None:
        """Drops rows of later steps and a torn end; a damaged line between is told and kept."""
        if not path.exists():
            if step > 0:
                warn(f"{path}: is gone, and with it the rows up to step {step:,}")
            return
        with open(path, "rb+") as file:
            kept = 0
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # the end of a line that was being written
                try:
                    if document.parsed(line)["step"] > step:
                        break
                except (ValueError, KeyError, TypeError):
                    warn(f"{path}: line {number:,} is no row of metrics; it is kept as it is")
                kept += len(line)
            file.truncate(kept)


def strict(value: Any) -> Any:
    """Plain data with null for numbers that JSON has no word for, such as a score of no slice."""
    if isinstance(value, dict):
        return {name: strict(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
