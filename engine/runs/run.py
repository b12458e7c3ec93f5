"""The run folder: the notebook of one training."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engine.checkpoints import checkpoint
from engine.checkpoints.archive import Arrays
from engine.checkpoints.checkpoint import Progress
from engine.errors import Mismatch, Refusal
from engine.recipe import serialization
from engine.recipe.recipe import Recipe
from engine.runs import compatibility, lock
from engine.runs.record import NAME, RunRecord, read_record, required_record
from volumes.storage.atomic import make_folder, whole_file

_CLOCKS_DIFFER_S = 300.0  # of a file server and this machine

_Read = TypeVar("_Read")

# A process that trains may remove a checkpoint between the look at it and its reading.
_LOOKS = 5

# What `begin` leaves where it is killed, its last file not yet written.
_BEGINNING = re.compile(r"\.lock|run\.json|recipe\.py|\.(run|recipe)\..+\.tmp")


@dataclass(frozen=True)
class Run:
    """A run folder; engine/README.md lists what lies in it."""

    folder: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, a line a step or validation."""
        return self.folder / "metrics.jsonl"

    @property
    def preview(self) -> Path:
        """The picture of the last validation."""
        return self.folder / "preview.png"

    @property
    def tensorboard(self) -> Path:
        """The folder that TensorBoard reads."""
        return self.folder / "tensorboard"

    def recipe(self) -> Recipe:
        """The resolved recipe; no code of the run folder is executed.

        Raises:
            Mismatch: where the folder is no run.
        """
        self.refuse_part()
        return serialization.from_json(self.folder / "recipe.json")

    def record(self) -> RunRecord:
        """What run.json says; empty where there is none, or it is damaged."""
        return read_record(self.folder)

    def resumed_record(self) -> RunRecord:
        """What run.json says of a run that goes on; empty where it has no checkpoint yet.

        What a run has learned from stands there alone, and is not guessed.

        Raises:
            Mismatch: where the run has checkpoints, and run.json is damaged or gone.
        """
        found = bool(checkpoint.steps(self.checkpoints))
        return required_record(self.folder) if found else self.record()

    def begun(self, record: RunRecord) -> bool:
        """Whether `begin` has written anything here."""
        return bool(record.content) or (self.folder / "recipe.json").exists()

    def checkpoint(self, which: str) -> Path:
        """The folder of a checkpoint: "best", "last", or a step.

        Raises:
            Mismatch: where the run has none, or it is damaged.
        """
        return self._read(which, checkpoint.verified)[0]

    def opened(self, which: str) -> tuple[Path, Arrays]:
        """A checkpoint's folder, as of `checkpoint`, and its every variable.

        Raises:
            Mismatch: where the run has none, or it is damaged.
        """
        return self._read(which, checkpoint.load)

    def _read(self, which: str, read: Callable[[Path], _Read]) -> tuple[Path, _Read]:
        for _ in range(_LOOKS):
            path = self._chosen(which)
            try:
                return path, read(path)
            except Mismatch:
                if path.exists():
                    raise
        cause = "is being saved faster than it can be read"
        raise Mismatch(self.folder, cause, "Try again")

    def _chosen(self, which: str) -> Path:
        found = checkpoint.steps(self.checkpoints)
        if not found:
            self.refuse_part()
            raise Mismatch(self.folder, "has no checkpoint yet", "Train it with `engine fit`")
        last = checkpoint.place(self.checkpoints, found[-1])
        if which == "last":
            step = found[-1]
        elif which == "best":
            best = checkpoint.verified(last).best_step
            step = found[-1] if best is None else best
        else:
            step = int(which) if which.isdecimal() else -1
        if step not in found:
            remedy = f"Choose best, last or one of {', '.join(map(str, found))}"
            raise Mismatch(self.folder, f"has no checkpoint {which}", remedy)
        return checkpoint.place(self.checkpoints, step)

    def refuse_part(self) -> None:
        """Refuses the name of what lies within a run.

        Raises:
            Mismatch: naming the run.
        """
        if (self.folder / "recipe.json").exists():
            return
        for place in self.folder.absolute().parents[:3]:
            if (place / "recipe.json").is_file():
                remedy = f"Name the run, {place}, and choose by --checkpoint or --from-checkpoint"
                raise Mismatch(self.folder, "is a part of a run", remedy)

    def note_saved(self, record: RunRecord) -> RunRecord:
        """Notes that it has a checkpoint: from then on, one that has none is never begun anew.

        Raises:
            CannotWrite: where the system refuses.
        """
        if record.saved or not self.begun(record):
            return record
        noted = RunRecord({**record.content, "saved": True})
        self._write(NAME, json.dumps(noted.content, indent=2) + "\n")
        return noted

    def newest(self, warn: Callable[[str], None], record: RunRecord) -> Progress | None:
        """The newest checkpoint that verifies; damaged ones are moved aside, with a warning.

        Returns:
            None where the run has never been saved.

        Raises:
            Mismatch: where it has, and nothing that verifies is left.
        """
        found = checkpoint.newest(self.checkpoints, warn)
        if found is None and record.saved:
            cause = "was saved, and its checkpoints are gone"
            raise Mismatch(self.folder, cause, "Bring them back, or start anew with --fresh")
        return found

    def sweep(self) -> None:
        """Removes what killed processes left half-written; call it while holding the lock."""
        checkpoint.sweep(self.checkpoints)
        for aside in self.folder.glob(".*.tmp"):
            if aside.is_dir() and not aside.is_symlink():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                aside.unlink(missing_ok=True)

    def changed_recipe(self, wanted: Recipe, *, accepted: bool) -> list[compatibility.Changes]:
        """How the run's recipe differs from the one that is asked for; none where it has none.

        Args:
            wanted: the recipe.
            accepted: whether the user consents to changes of what is learned.

        Raises:
            Mismatch: where the folder holds a run of another recipe.
        """
        if not (self.folder / "recipe.json").exists():
            return []
        change = compatibility.of_recipe(self.recipe(), wanted)
        change.refuse(self.folder, accepted=accepted)
        return [change]

    def changed_cases(
        self, record: RunRecord, about: Mapping[str, Any], wanted: Recipe, *, accepted: bool
    ) -> list[compatibility.Changes]:
        """How the run's cases differ from those that are there now; none where it has none.

        Args:
            record: of the run.
            about: the cases now, as run.json will hold them.
            wanted: the recipe.
            accepted: whether the user consents to other cases.

        Raises:
            Mismatch: where the folder holds a run on other cases.
        """
        if not (self.folder / "recipe.json").exists():
            return []
        change = compatibility.of_cases(record.content, about, wanted)
        change.refuse(self.folder, accepted=accepted)
        if change.learned:
            compatibility.refuse_learned_from(self.folder, record.learned_from, about["cases"])
        return [change]

    def begin(
        self, wanted: Recipe, source: Path, about: Mapping[str, Any],
        record: RunRecord | None = None, changes: Sequence[compatibility.Changes] | None = None,
    ) -> RunRecord:  # fmt: skip
        """Writes what the run is, and notes what has changed.

        Args:
            wanted: the recipe.
            source: its file.
            about: what run.json is to hold.
            record: what it held; read where it is not given.
            changes: those that were accepted; where they are not given, none is.

        Returns:
            What run.json holds now.

        Raises:
            Mismatch: where the folder holds something else, or changes that were not accepted.
        """
        record = self.record() if record is None else record
        self._refuse_foreign(record)
        if changes is None:
            changes = self.changed_recipe(wanted, accepted=False)
            changes += self.changed_cases(record, about, wanted, accepted=False)
        recipes = record.recipes
        if (self.folder / "recipe.json").exists() and not recipes:
            recipes = [serialization.fingerprint(self.recipe(), but=compatibility.MAY_CHANGE)]
        noted = record.changes
        if any(change.learned for change in changes):
            noted.append(
                {
                    "from_step": max(checkpoint.steps(self.checkpoints), default=0),
                    "changed": [text for change in changes for text in change.learned],
                    "rescored": any(change.rescored for change in changes),
                    "learned_from": record.learned_from,
                }
            )
        mine = serialization.fingerprint(wanted, but=compatibility.MAY_CHANGE)
        content = {**about, "recipes": [*(known for known in recipes if known != mine), mine]}
        content |= {"saved": True} if record.saved else {}
        content |= {"changes": noted} if noted else {}
        # In this order: a process killed between them must not lose from what the run was started.
        self._write(NAME, json.dumps(content, indent=2) + "\n")
        self._write("recipe.py", source.read_text())
        self._write("recipe.json", serialization.to_json(wanted))
        return RunRecord(content)

    def _refuse_foreign(self, record: RunRecord) -> None:
        """A folder of something else is neither written into nor moved."""
        if not self.folder.exists() or (self.folder / "recipe.json").exists():
            return
        kept = _BEGINNING if "cases" in record.content else re.compile(r"\.lock")
        if not self.folder.is_dir() or not all(
            kept.fullmatch(path.name) for path in self.folder.iterdir()
        ):
            raise Mismatch(self.folder, "is not empty and no run", "Choose another --run")

    def _write(self, name: str, text: str) -> None:
        with whole_file(self.folder / name, overwrite=True) as file:
            file.write(text.encode())

    def set_aside(self) -> Path | None:
        """Moves an existing run out of the way; nothing is deleted."""
        if not self.folder.exists():
            return None
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        aside = self.folder.with_name(f"{self.folder.name}.{now}")
        with self.locked():  # not from under a process that trains it
            self.folder.rename(aside)
        return aside

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for this process; the lock ends with it, however it ends.

        Raises:
            Locked: where another process holds it.
        """
        self._refuse_foreign(self.record())
        new = not self.folder.exists()
        make_folder(self.folder)
        with lock.held(self._lock):
            try:
                yield
            except Refusal:
                if new and [path.name for path in self.folder.iterdir()] == [self._lock.name]:
                    # Refused before anything was begun: no folder that would look like a run.
                    self._lock.unlink()
                    self.folder.rmdir()
                raise

    def refuse_locked(self) -> None:
        """Refuses a run that another process holds, before any work is done for it.

        Raises:
            Locked: where another process holds it.
        """
        lock.refuse_held(self._lock)

    @property
    def _lock(self) -> Path:
        return self.folder / ".lock"


def newest_run(root: Path = Path("runs")) -> Run:
    """The run whose checkpoints changed last, by the times of their folders.

    Runs count their own steps: between two of them there is nothing but the clock to go by. Where
    it cannot be right, nothing is guessed.

    Raises:
        Mismatch: where there is none, or one was saved in what is still the future.
    """
    runs = [path.parent for path in root.glob("*/checkpoints") if checkpoint.steps(path)]
    remedy = "Name one by --model"
    if not runs:
        cause = "holds no run with a checkpoint"
        raise Mismatch(root, cause, f"{remedy}, or train one with `engine fit`")
    saved_at = {path: (path / "checkpoints").stat().st_mtime for path in runs}
    newest = max(runs, key=saved_at.__getitem__)
    if len(runs) > 1 and saved_at[newest] > time.time() + _CLOCKS_DIFFER_S:
        raise Mismatch(
            newest,
            "was saved in the future: a clock was wrong, and cannot tell the newest run",
            remedy,
        )
    return Run(newest)
