"""The terminal: messages, warnings, results and progress bars for the user."""

from __future__ import annotations

import importlib.util
import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from volumes.errors import Refusal, one_line
from volumes.volume import Odd

_SHOW_EVERY_S = 0.2
_RATE_OVER_S = 300.0
_TABLE_COLUMNS = 100


class Terminal:
    """Output for the user: results on stdout, everything else on stderr, or in the notebook.

    Args:
        quiet: prints only results, warnings and errors.
        verbose: prints details, too.
        results: prints results. The Python API returns them instead.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, results: bool = True) -> None:
        self.quiet, self.verbose, self._results = quiet, verbose, results
        self._warned: set[str] = set()
        self._silent = False
        self._err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

    def say(self, text: str) -> None:
        """Prints a message, unless -q was given."""
        if not self.quiet:
            self._err.print(text, markup=False)

    def detail(self, text: str) -> None:
        """Prints a message if -v was given."""
        if self.verbose:
            self.say(text)

    def silence(self) -> None:
        """From here on prints errors alone: another process of this training says the rest."""
        self.quiet, self.verbose, self._results, self._silent = True, False, False, True

    def warn(self, text: str) -> None:
        """Prints a warning, also with -q."""
        if self._silent:
            return
        self._err.print(one_line(f"engine: warning: {text}"), markup=False)

    def warn_once(self, odd: Odd) -> None:
        """Prints warnings about files, each of them once."""
        for line in (f"{path}: {words}" for path in odd for words in odd[path]):
            if line not in self._warned:
                self._warned.add(line)
                self.warn(line)

    def refusal(self, refusal: Refusal) -> None:
        """Prints an error that does not end the command."""
        self._err.print(f"engine: error: {refusal}", markup=False)

    def result(self, text: str) -> None:
        """Prints a line of the result on stdout."""
        if self._results:
            print(text, flush=True)

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Prints a table of results on stdout."""
        # In a pipe, the table is never cut. On a narrow terminal, lines wrap without loss; rich
        # would cut numbers.
        width = max(Console().width, _TABLE_COLUMNS) if _is_terminal(sys.stdout) else 1000
        # Without a height rich would take 80 columns where TERM=dumb.
        console = Console(highlight=False, width=width, height=25, markup=False, emoji=False)
        console.print(_table(title, columns, rows))

    @contextmanager
    def progress(self, what: str, total: int, done: int = 0, unit: str = "") -> Iterator[Bar]:
        """A progress bar. It is hidden if stderr is neither a terminal nor a notebook.

        Args:
            what: is done.
            total: of its parts.
            done: of them so far.
            unit: of the parts, for the rate; without one no rate is shown.
        """
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False), _Rate(), TimeRemainingColumn(),
        )  # fmt: skip
        # In a notebook rich draws with ipywidgets.
        notebook = self._err.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        hidden = self.quiet or not (_is_terminal(sys.stderr) or notebook)
        with Progress(
            *columns, console=self._err, disable=hidden, transient=True,
            speed_estimate_period=_RATE_OVER_S,
            redirect_stdout=_is_terminal(sys.stdout),  # results in a pipe stay there
        ) as progress:  # fmt: skip
            yield Bar(progress, what, total, done, unit)


def table_text(title: str, columns: list[str], rows: list[list[str]]) -> str:
    """A table of results as plain text, as wide as it needs to be."""
    file = io.StringIO()
    console = Console(
        file=file, width=1000, highlight=False, markup=False, emoji=False, force_jupyter=False,
        color_system=None,
    )  # fmt: skip
    console.print(_table(title, columns, rows))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for i, column in enumerate(columns):
        # Numbers are not wrapped. A name that is too long for the terminal is wrapped, not cut.
        if i:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


class _Rate(ProgressColumn):
    """Parts per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        return Text(f"{speed:.3g} {unit}/s" if unit and speed else "")


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal. It is None in a process that was started with it closed."""
    return stream is not None and stream.isatty()


class Bar:
    """One progress bar."""

    def __init__(self, progress: Progress, what: str, total: int, done: int, unit: str) -> None:
        self._progress, self._total, self._unit, self._shown = progress, total, unit, 0.0
        self._task = progress.add_task(what, total=total, completed=done, note="", unit=unit)

    def at(self, done: int, note: str = "") -> None:
        """Shows the progress. Updates are limited to five per second."""
        now = time.monotonic()
        if now - self._shown >= _SHOW_EVERY_S or self._total == done:
            self._progress.update(self._task, completed=done, note=note)
            self._shown = now

    @contextmanager
    def part(self, what: str, total: int) -> Iterator[Bar]:
        """A bar below this one, for one of its parts, in the same unit."""
        bar = Bar(self._progress, what, total, 0, self._unit)
        try:
            yield bar
        finally:
            self._progress.remove_task(bar._task)
