"""Evaluation of methods, as `engine evaluate` does it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.comparison.evaluate import Evaluated, explained
from engine.comparison.evaluate import evaluate as compared
from engine.comparison.evaluate_request import EvaluateRequest
from engine.plots import Figure
from engine.terminal import Terminal, table_text
from volumes.nifti.read_options import ReadOptions


class EvaluateResult:
    """The scores of a comparison. It prints as a table; a notebook shows the figures, too.

    Attributes:
        folder: of the report; None if none was written.
    """

    def __init__(self, evaluated: Evaluated, folder: Path | None) -> None:
        self._evaluated, self.folder = evaluated, folder

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The scores of each method on each case at each level: `method`, `case`, `level`, ..."""
        return [
            {"method": row.method, "case": row.case, "level": row.level, **row.scores}
            for row in self._evaluated.rows
        ]

    @cached_property
    def summary(self) -> list[dict[str, Any]]:
        """Means over cases by method and level, with deviations, intervals and gains."""
        from engine.report.summary import summary

        return summary(self._evaluated.rows, self._evaluated.about["oracles"])

    @property
    def facts(self) -> dict[str, Any]:
        """What was compared, as in report.json: cases with hashes, levels, settings, networks."""
        return self._evaluated.about

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The figures of the report by name: slices-<level>, cases, levels if there are several."""
        from engine.report.files import drawings

        found = self._evaluated
        drawn = drawings(found.rows, found.pictures, found.window)
        return {name: Figure.drawn(draw) for name, draw in drawn.items()}

    def __str__(self) -> str:
        text = table_text(self._evaluated.title, *self._table)
        return "\n".join([text, *explained(self._evaluated)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        columns, rows = self._table
        head = _row("th", columns)
        body = "".join(_row("td", row) for row in rows)
        lines = "<br>".join(map(html.escape, explained(self._evaluated)))
        shown = "".join(
            f'<img alt="{html.escape(name)}" src="data:image/png;base64,'
            f'{base64.b64encode(figure.png).decode()}">'
            for name, figure in self.figures.items()
        )
        title = html.escape(self._evaluated.title)
        return f"<table><caption>{title}</caption>{head}{body}</table><p>{lines}</p>{shown}"

    @property
    def _table(self) -> tuple[list[str], list[list[str]]]:
        from engine.report.tables import table

        return table(self.summary, self._evaluated.window.unit_name)


def evaluate(
    methods: Sequence[str | Path],
    *,
    data: str | Path,
    noise: str | None = None,
    kinds: str | None = None,
    split: str = "test",
    output: str | Path | None = None,
    protocol: str = "volumes",
    slices: int | None = None,
    checkpoint: str | int = "best",
    tuning: str = "validation",
    allow_seen: bool = False,
    overwrite: bool = False,
    devices: str = "auto",
    assume_hu: bool = False,
    run_code: bool = False,
    quiet: bool = False,
) -> EvaluateResult:
    """Compares methods on the same cases with the same noise.

    Args:
        methods: run folders, and noisy, prior, tv, nlm, bm3d, bm4d, spade; each with an optional
            @PRIOR.
        data: folder of the cases, or a file of pairs.
        noise: added or recorded noise, such as "gaussian:0.02,0.1". Without it and without `kinds`,
            gaussian:0.1.
        kinds: simulated scanners (--as), such as "low_dose:7e4,1e5".
        split: test, validation or all.
        output: folder of the report; None writes none.
        protocol: volumes, or reference: the first slice of a central crop.
        slices: number of scored slices about the middle of each case; None is all.
        checkpoint: of each run: "best", "last" or a step.
        tuning: what classical methods are tuned on: "validation" cases, the "scored" cases
            themselves, with the clean image known (the best that they can give), or "none".
        allow_seen: also score cases that a network was trained on.
        overwrite: replace an existing report.
        devices: auto, cpu, gpu or gpu:0. TensorFlow takes them once in a process.
        assume_hu: accept values that do not look like HU.
        run_code: run the Python files that the named runs keep, if they define parts of these runs.
        quiet: show only warnings.

    Raises:
        Refusal: as `engine evaluate`, in the same words.

    Example:
        >>> import engine
        >>> found = engine.evaluate(["noisy", "prior"], data="phantoms", split="all", slices=2,
        ...                         tuning="none", quiet=True)
        >>> [(row["method"], row["level"]) for row in found.rows if row["case"] == "case_00000"]
        [('noisy', '10%'), ('prior', '10%')]
        >>> list(found.figures)
        ['slices-10pc', 'cases', 'noise_power']
    """
    place = None if output is None else Path(output)
    request = EvaluateRequest(
        tuple(map(str, methods)), Path(data), place, split, noise, kinds, protocol, slices,
        str(checkpoint), tuning, allow_seen, devices, overwrite, ReadOptions(hu=assume_hu),
        run_code,
    )  # fmt: skip
    return EvaluateResult(compared(request, Terminal(quiet=quiet, results=False)), place)


def _row(cell: str, values: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{html.escape(value)}</{cell}>' for value in values)}</tr>"
