"""The saver: writes checkpoints, and tries again later if the disk is full."""

from __future__ import annotations

from collections.abc import Callable

from engine.checkpoints import checkpoint
from engine.checkpoints.archive import Arrays
from engine.checkpoints.checkpoint import Progress
from engine.errors import DiskFull
from engine.runs.record import RunRecord
from engine.runs.training_run import TrainingRun
from engine.training.training_log import TrainingLog

_MOST_FAILURES = 3


class Saver:
    """Writes the checkpoints of one training process."""

    def __init__(self, run: TrainingRun, record: RunRecord, warn: Callable[[str], None]) -> None:
        self._run, self._record, self._warn = run, record, warn
        self._failures = 0  # in a row

    def save(self, arrays: Arrays, progress: Progress, log: TrainingLog, *, last: bool) -> None:
        """Saves a checkpoint, after all rows of the log are synced.

        Args:
            arrays: every variable by name.
            progress: of the training.
            log: of the training.
            last: whether this is the last save, so that none can try again on a full disk.

        Raises:
            CannotWrite: if it fails for another reason than a full disk, for the third time in a
                row, or in the last save.
        """
        try:
            log.sync()
            checkpoint.save(self._run.checkpoints, arrays, progress)
            self.note_saved()
        except DiskFull as refusal:
            self._failures += 1
            if last or self._failures == _MOST_FAILURES:
                raise
            count = f"{self._failures} of {_MOST_FAILURES} failures"
            again = f"tries again at the next checkpoint ({count})"
            self._warn(f"{refusal.path}: {refusal.cause}; {again}")
        else:
            self._failures = 0

    def note_saved(self) -> None:
        """Records in run.json that the run has a checkpoint.

        Raises:
            CannotWrite: if run.json cannot be written.
        """
        self._record = self._run.note_saved(self._record)
