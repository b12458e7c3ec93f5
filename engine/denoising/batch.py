"""Batch: the scans of one command, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import BadInput, NumericalFailure, OutOfMemory
from engine.terminal import Bar, Terminal
from volumes.errors import Refusal, listed

_NAMED = 10
_OUT_OF_MEMORY = ("MemoryError", "_ArrayMemoryError", "ResourceExhaustedError")


class Tally:
    """Counts the scans that are done, kept and failed.

    Errors of single scans are shown at once if there are others, and counted at the end.

    Args:
        count: of all scans.
        terminal: shows errors and the summary.
        batch: whether there is a summary.
    """

    def __init__(self, count: int, terminal: Terminal, *, batch: bool) -> None:
        self.done = self.kept = 0
        self._count, self._terminal, self._batch = count, terminal, batch
        self._failed: dict[Path, type[Refusal]] = {}  # a refusal would keep its scan in memory

    @contextmanager
    def noted(self, path: Path) -> Iterator[None]:
        """Continues after the refusal of one scan of several."""
        try:
            yield
        except (BadInput, NumericalFailure) as refusal:
            self._note(path, refusal)
            if self._count == 1:
                raise
        except Exception as error:
            if self._count == 1 or type(error).__name__ not in _OUT_OF_MEMORY:
                raise
            # One large scan must not keep the scans after it from being denoised, each time anew.
            remedy = "Use a smaller --tile, or a machine with more memory"
            self._note(path, OutOfMemory(path, "does not fit into memory", remedy))

    def _note(self, path: Path, refusal: Refusal) -> None:
        self._failed[path] = type(refusal)
        if self._count > 1:
            self._terminal.refusal(refusal)

    @contextmanager
    def summarised(self) -> Iterator[None]:
        """Counts the scans of a batch at the end of the block, whatever ends it.

        Raises:
            BadInput: with the scans that failed; another refusal if every one is of its kind.
        """
        try:
            yield
        finally:
            if self._batch:
                self._terminal.say(self._summary())
        self.end()

    def _summary(self) -> str:
        left = self._count - self.done - self.kept - len(self._failed)
        counts = {"done": self.done, "kept": self.kept, "failed": len(self._failed)}
        words = [f"{count:,} {name}" for name, count in counts.items()]
        words += [f"{left:,} not reached"] if left else []
        return f"{scans_in_words(self._count)}: {', '.join(words)}"

    def end(self) -> None:
        """Raises an error if any scan was refused.

        Raises:
            BadInput: as `summarised`.
        """
        if not self._failed:
            return
        kinds = set(self._failed.values())
        kind = kinds.pop() if len(kinds) == 1 else BadInput
        names = listed([str(path) for path in self._failed], most=_NAMED)
        title = f"{len(self._failed):,} of {scans_in_words(self._count)}"
        raise kind(title, "could not be denoised", f"Repair or leave out {names}")


def scans_in_words(count: int) -> str:
    """`1 scan`, `1,000 scans`."""
    return "1 scan" if count == 1 else f"{count:,} scans"


class SliceProgress:
    """The progress of a batch, in slices: of its scans, and of the scan at hand.

    Args:
        bar: of the batch; None for a single scan, which has a bar of its own.
        count: of scans.
    """

    UNIT = "slices"

    def __init__(self, bar: Bar | None, count: int, terminal: Terminal) -> None:
        self._bar, self._count, self._terminal = bar, count, terminal
        self._scans = self._done = 0

    @classmethod
    @contextmanager
    def of(cls, depths: list[int], terminal: Terminal) -> Iterator[SliceProgress]:
        """The progress over scans with these numbers of slices."""
        if len(depths) < 2:
            yield cls(None, len(depths), terminal)
            return
        with terminal.progress("all scans", sum(depths), unit=cls.UNIT) as bar:
            yield cls(bar, len(depths), terminal)

    @contextmanager
    def scan(self, name: str, depth: int, tiles: int) -> Iterator[Callable[[int], None]]:
        """Shows one scan; yields what is told the number of its finished tiles."""
        self._scans += 1
        whole, before, note = self._bar, self._done, f"scan {self._scans} of {self._count}"
        own = (
            self._terminal.progress(name, depth, unit=self.UNIT)
            if whole is None
            else whole.part(name, depth)
        )
        with own as bar:

            def at(done: int) -> None:
                slices = depth * done // tiles
                bar.at(slices)
                if whole is not None:
                    whole.at(before + slices, note)

            at(0)
            yield at
        self._done += depth
