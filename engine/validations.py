"""Validations: what a run has noted of its own scores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.run import Run
from volumes import document


class Validation(NamedTuple):
    """The scores of a method at a step, as means over cases."""

    step: int
    method: str
    mean: dict[str, Any]


def validations(run: Run) -> Iterator[Validation]:
    """The validations of a run, in the order of metrics.jsonl; lines that are none are passed over.

    Of one at several levels it is the mean over these.

    A run that is trained at the moment may be in the middle of a line.

    Raises:
        OSError: where the file is there and cannot be read.
    """
    if not run.metrics.is_file():
        return
    with open(run.metrics, "rb") as lines:
        for line in lines:
            if b'"method"' not in line:  # nearly all are steps
                continue
            try:
                row = document.parsed(line)
                if "level" in row:
                    continue
                yield Validation(int(row["step"]), str(row["method"]), dict(row["mean"]))
            except (ValueError, TypeError, KeyError, OverflowError):
                continue


def harm(run: Run, step: int) -> str | None:
    """In words, that a network scored no better than the noisy scans; None where it scored better.

    Its last validation up to a step counts, beside the noisy scans that were scored before it:
    those that are scored behind it have other noise, or are other cases.
    """
    found: tuple[int, Any, Any] | None = None
    noisy: Any = None
    try:
        for row in validations(run):
            if row.method == "noisy":
                noisy = row.mean.get("mse")
            elif row.method == "network" and row.step <= step:
                found = row.step, row.mean.get("mse"), noisy
    except OSError as error:
        return f"does not tell how it scored: metrics.jsonl: {error.strerror or error}"
    if found is None:
        return None
    validated, after, before = found
    if not (document.is_number(after) and document.is_number(before)) or after < before:
        return None
    return (
        f"made its own validation scans no better at step {validated:,}: {_db(after)} of the mean "
        f"MSE, untouched {_db(before)}"
    )


def _db(mse: float) -> str:
    return f"{-10 * math.log10(mse):.2f} dB" if mse > 0 else "infinite"
