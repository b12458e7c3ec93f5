"""The run folder as a training writes it: locked, begun, resumed."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.errors import CannotWrite, Mismatch
from engine.recipe import foreign_parts, recipe_code, serialization
from engine.recipe.recipe import Recipe
from engine.recipe.recipe_code import RECIPE
from engine.runs import compatibility, kept_code, lock
from engine.runs.record import NAME, RunRecord, required_record
from engine.runs.run import Run
from volumes.storage.atomic import make_folder, refuse_unwritable, whole_file

_LOCKS = re.compile(r"\.lock(\.held|\.taken)?")
# Files that `begin` leaves if it is killed before it has written the last one.
_BEGINNING = re.compile(
    rf"{_LOCKS.pattern}|run\.json|recipe\.py|{kept_code.FOLDER}|\.(run|recipe)\..+\.tmp|\.code\.tmp"
)


@dataclass(frozen=True)
class TrainingRun(Run):
    """A run folder that a training, or an import, writes to. `Run` only reads."""

    def resumed_record(self) -> RunRecord:
        """The content of run.json of a run that is resumed.

        With a checkpoint it must be intact: only run.json records what the run learned from.

        Raises:
            Mismatch: if the run has checkpoints, and run.json is damaged or missing.
        """
        found = bool(checkpoint.steps(self.checkpoints))
        return required_record(self.folder) if found else self.record()

    def begun(self, record: RunRecord) -> bool:
        """Whether `begin` has written anything here."""
        return bool(record.content) or (self.folder / "recipe.json").exists()

    def note_saved(self, record: RunRecord) -> RunRecord:
        """Records that the run has a checkpoint: without one, it is then refused, not begun anew.

        Raises:
            CannotWrite: if run.json cannot be written.
        """
        if record.saved or not self.begun(record):
            return record
        noted = RunRecord({**record.content, "saved": True})
        self._write(NAME, json.dumps(noted.content, indent=2) + "\n")
        return noted

    def newest(
        self, warn: Callable[[str], None], record: RunRecord, *, rename: bool = True
    ) -> Progress | None:
        """The newest intact checkpoint. Damaged ones are renamed, with a warning.

        Args:
            warn: called with a message about each damaged one.
            record: of the run.
            rename: False only warns of them, and writes nothing.

        Returns:
            None if the run was never saved.

        Raises:
            Mismatch: if it was saved, but no intact checkpoint is left.
        """
        found = checkpoint.newest(self.checkpoints, warn, rename=rename)
        if found is None and record.saved:
            cause = "was saved, but its checkpoints no longer exist"
            raise Mismatch(self.folder, cause, "Restore them, or start anew with --fresh")
        return found

    def sweep(self) -> None:
        """Removes incomplete files of killed processes. Call it while holding the lock."""
        checkpoint.sweep(self.checkpoints)
        for aside in self.folder.glob(".*.tmp"):
            if aside.is_dir() and not aside.is_symlink():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                aside.unlink(missing_ok=True)

    def changed_recipe(self, wanted: Recipe, *, accepted: bool) -> list[compatibility.Changes]:
        """The changes between the run's recipe and the requested one; empty for a new run.

        Args:
            wanted: the requested recipe.
            accepted: whether the user accepts changes of what is learned.

        Raises:
            Mismatch: if the folder holds a run of another recipe.
        """
        if not (self.folder / "recipe.json").exists():
            return []
        fields, code = self.fields(), foreign_parts.code_behind(wanted)
        rewritten: list[str] = []
        if checkpoint.steps(self.checkpoints):  # else nothing was learned by the earlier code
            rewritten = kept_code.differences(self.folder, fields, code)
        change = compatibility.of_recipe(self._rebuilt(fields, code), wanted, rewritten)
        change.refuse(self.folder, accepted=accepted)
        return [change]

    def changed_cases(
        self, record: RunRecord, about: Mapping[str, Any], wanted: Recipe, *, accepted: bool
    ) -> list[compatibility.Changes]:
        """The changes between the run's cases and the present ones; empty for a new run.

        Args:
            record: of the run.
            about: the present cases, in the form of run.json.
            wanted: the requested recipe.
            accepted: whether the user accepts other cases.

        Raises:
            Mismatch: if the folder holds a run on other cases.
        """
        if not (self.folder / "recipe.json").exists():
            return []
        change = compatibility.of_cases(record.content, about, wanted)
        change.refuse(self.folder, accepted=accepted)
        if change.learned:
            compatibility.refuse_learned_from(self.folder, record.learned_from, about)
        return [change]

    def begin(
        self, wanted: Recipe, source: Path | bytes | None, about: Mapping[str, Any],
        record: RunRecord | None = None, changes: Sequence[compatibility.Changes] | None = None,
    ) -> RunRecord:  # fmt: skip
        """Writes recipe, its code and run.json, and records accepted changes.

        Args:
            wanted: the recipe.
            source: its file, or the content of one. None keeps the copy of the run.
            about: new content of run.json.
            record: its present content; None reads it.
            changes: the accepted changes; None accepts none.

        Returns:
            The new content of run.json.

        Raises:
            Mismatch: if the folder holds something else, or a change was not accepted.
        """
        record = self.record() if record is None else record
        self._refuse_foreign()
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
        # run.json first: a process killed in between must not lose the initial weights.
        self._write(NAME, json.dumps(content, indent=2) + "\n")
        parts = foreign_parts.code_behind(wanted)
        code = parts or (recipe_code.at(source) if isinstance(source, Path) else None)
        if source is not None:
            written = source if isinstance(source, bytes) else source.read_bytes()
            self._write("recipe.py", code.files[RECIPE] if code else written)
        if code is not None and (parts is not None or len(code.files) > 1):
            kept_code.keep(self.folder, code)
        self._write("recipe.json", serialization.to_json(wanted))
        return RunRecord(content)

    def _refuse_foreign(self) -> None:
        """Refuses a folder of something else: it is neither written to nor moved."""
        if not self.folder.exists() or (self.folder / "recipe.json").exists():
            return
        kept = _BEGINNING if "cases" in self.record().content else _LOCKS
        if not self.folder.is_dir() or not all(
            kept.fullmatch(path.name) for path in self.folder.iterdir()
        ):
            raise Mismatch(self.folder, "is not empty and no run", "Choose another --run")

    def _write(self, name: str, content: str | bytes) -> None:
        with whole_file(self.folder / name, overwrite=True) as file:
            file.write(content.encode() if isinstance(content, str) else content)

    def set_aside(self) -> Path | None:
        """Moves an existing run aside. Nothing is deleted."""
        if not self.folder.exists():
            return None
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        aside = self.folder.with_name(f"{self.folder.name}.{now}")
        with self.locked():  # not while another process trains it
            self.folder.rename(aside)
        return aside

    @contextmanager
    def locked(self, warn: Callable[[str], None] | None = None) -> Iterator[None]:
        """Locks the run for this process. The lock is freed even if the process is killed.

        Args:
            warn: called with a message if the file system has no locks.

        Raises:
            Locked: if another process holds it.
        """
        self._refuse_foreign()
        new = not self.folder.exists()
        make_folder(self.folder)
        taken = False
        try:
            with lock.held(self._lock, warn):
                taken = True
                try:
                    yield
                except BaseException:
                    if new:
                        self._remove_unbegun()
                    raise
        except CannotWrite:
            if new and not taken:
                self._remove_unbegun()
            raise

    def _remove_unbegun(self) -> None:
        """Leaves no empty run folder of a run that was refused or stopped before it began."""
        with suppress(OSError):
            names = [path.name for path in self.folder.iterdir()]
            if all(_LOCKS.fullmatch(name) for name in names):
                for name in names:
                    (self.folder / name).unlink()
                self.folder.rmdir()

    def refuse_unusable(self) -> None:
        """Refuses a folder that `locked` would refuse. Nothing is written.

        Raises:
            Mismatch: if it holds something else than a run.
            Locked: if another process holds it.
            CannotWrite: if it could not be made or written.
        """
        self._refuse_foreign()
        refuse_unwritable(self.folder)
        self.refuse_locked()

    def refuse_locked(self) -> None:
        """Refuses a run that another process holds, before any work is done.

        Raises:
            Locked: if another process holds it.
        """
        lock.refuse_held(self._lock)

    @property
    def _lock(self) -> Path:
        return self.folder / ".lock"
