"""metrics.jsonl: the rows of the steps and validations of a training."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from engine.runs.run import Run
from volumes.storage import json_files
from volumes.storage.atomic import cannot_write, is_full


class MetricsFile:
    """metrics.jsonl, open for writing: rows in the order of steps, none twice, none incomplete.

    If the disk is full, rows are kept in memory until there is space. `sync` raises an error if
    there still is none.
    """

    def __init__(
        self, path: Path, step: int, warn: Callable[[str], None] = lambda _: None, *,
        unvalidated: bool = False,
    ) -> None:  # fmt: skip
        """Opens the file to continue after a step. Rows of later steps are removed.

        Args:
            path: of the file.
            step: that the training continues from.
            warn: called for lines that are not rows. They are kept.
            unvalidated: whether the validation of that step is due: rows of an earlier attempt are
                removed.

        Raises:
            CannotWrite: if the file cannot be read or written.
        """
        self._path, self._held = path, b""
        try:
            self._drop_after(path, step, warn, unvalidated)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed by `close`)
            self._end = self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise cannot_write(path, error) from error

    def row(self, **values: Any) -> None:
        """Adds a row.

        Raises:
            CannotWrite: if writing fails for another reason than a full disk.
        """
        self._held += (json.dumps(strict(values), allow_nan=False) + "\n").encode()
        try:
            self._write()
        except OSError as error:
            if not is_full(error):
                raise cannot_write(self._path, error) from error

    def sync(self) -> None:
        """Writes all rows to disk, so that they survive a crash.

        Raises:
            DiskFull: if the disk is full. The rows are kept in memory.
            CannotWrite: if writing fails for another reason.
        """
        try:
            self._write()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self) -> None:
        """Writes the rows in memory. A partial write is undone."""
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
    def _drop_after(path: Path, step: int, warn: Callable[[str], None], unvalidated: bool) -> None:
        """Removes rows of later steps and an incomplete last line. Keeps and reports bad lines."""
        if not path.exists():
            if step > 0:
                warn(f"{path}: is gone, and with it the rows up to step {step:,}")
            return
        with open(path, "rb+") as file:
            kept = 0
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # incomplete: the process was killed while writing it
                try:
                    row = json_files.parse_json(line)
                    due = unvalidated and row["step"] == step and "loss" not in row
                    if due or row["step"] > step:
                        break
                except (ValueError, KeyError, TypeError):
                    warn(f"{path}: line {number:,} is no row of metrics; it is kept as it is")
                kept += len(line)
            file.truncate(kept)


def strict(value: Any) -> Any:
    """Plain data with null for NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {name: strict(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def metrics_rows(run: Run) -> list[dict[str, Any]]:
    """All rows of metrics.jsonl. Lines that are no rows are skipped.

    Raises:
        OSError: if the file exists, but cannot be read.
    """
    found = []
    if run.metrics.is_file():
        with open(run.metrics, "rb") as lines:
            for line in lines:
                with suppress(ValueError):
                    row = json_files.parse_json(line)
                    found += [row] if isinstance(row, dict) and "step" in row else []
    return found


class ValidationRow(NamedTuple):
    """The scores of a method at a step: means over cases."""

    step: int
    method: str
    mean: dict[str, Any]


def validations(run: Run) -> Iterator[ValidationRow]:
    """The validations of a run, in the order of metrics.jsonl. Other lines are skipped.

    Of a validation at several levels, it is the mean over levels. If the run is being trained, its
    last line may be incomplete.

    Raises:
        OSError: if the file exists, but cannot be read.
    """
    for found, row in validation_rows(run):
        if "level" not in row:
            yield found


def validation_rows(run: Run) -> Iterator[tuple[ValidationRow, dict[str, Any]]]:
    """The rows of all validations, those of each level too, with what each says.

    Raises:
        OSError: if the file exists, but cannot be read.
    """
    if not run.metrics.is_file():
        return
    with open(run.metrics, "rb") as lines:
        for line in lines:
            if b'"method"' not in line:  # nearly all are steps
                continue
            try:
                row = json_files.parse_json(line)
                found = ValidationRow(int(row["step"]), str(row["method"]), dict(row["mean"]))
            except (ValueError, TypeError, KeyError, OverflowError):
                continue
            yield found, row


def harm(run: Run, step: int) -> str | None:
    """A warning if the validation error is not below that of the noisy scans, else None.

    It compares the last validation up to a step with the last scores of the noisy scans before it.
    Later ones are of other noise or other cases.
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
        return f"has no readable scores: metrics.jsonl: {error.strerror or error}"
    if found is None:
        return None
    validated, after, before = found
    if not (json_files.is_number(after) and json_files.is_number(before)) or after < before:
        return None
    return (
        f"made its own validation scans no better at step {validated:,}: {_db(after)} of the mean "
        f"MSE, untouched {_db(before)}"
    )


def _db(mse: float) -> str:
    return f"{-10 * math.log10(mse):.2f} dB" if mse > 0 else "infinite"
