"""Validations: what a run has noted of its own scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.run import Run
from volumes import document


class Validation(NamedTuple):
    """The scores of a method at a step, as means over cases."""

    step: int
    method: str
    mean: dict[str, float | None]


def validations(run: Run) -> Iterator[Validation]:
    """The validations of a run, in the order of metrics.jsonl; lines that are none are passed over.

    A run that is trained at the moment may be in the middle of a line.
    """
    if not run.metrics.is_file():
        return
    with open(run.metrics, "rb") as lines:
        for line in lines:
            try:
                row = document.parsed(line)
                if "method" in row:
                    yield Validation(int(row["step"]), str(row["method"]), dict(row["mean"]))
            except (ValueError, TypeError, KeyError):
                continue


def harm(run: Run, step: int) -> str | None:
    """In words, that the network of a step scored no better than the noisy scans; else None."""
    found: dict[str, Any] = {}
    for row in validations(run):
        if (row.method == "noisy" and row.step <= step) or (row.method, row.step) == (
            "network", step,
        ):  # fmt: skip
            found[row.method] = row.mean.get("mse"), row.mean.get("psnr_db")
    (noisy, before_db), (network, after_db) = (
        found.get(method, (None, None)) for method in ("noisy", "network")
    )
    numbers = (noisy, network, before_db, after_db)
    if not all(isinstance(number, float) for number in numbers) or network < noisy:
        return None
    return (
        f"made its own validation scans no better at step {step:,}: {after_db:.2f} dB, "
        f"untouched {before_db:.2f} dB"
    )
