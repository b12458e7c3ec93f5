"""The run folder: recipe, record, checkpoints and metrics of one training."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engine.checkpoints import checkpoint
from engine.checkpoints.archive import Arrays
from engine.checkpoints.checkpoint import Progress
from engine.errors import CannotWrite, Mismatch, did_you_mean
from engine.recipe import foreign_parts, recipe_code, serialization
from engine.recipe.recipe import Recipe
from engine.recipe.recipe_code import RECIPE, RecipeCode
from engine.recipe.shipped_networks import folder_of, shipped_names
from engine.runs import compatibility, kept_code, lock
from engine.runs.record import NAME, RunRecord, read_record, required_record
from volumes.storage.atomic import make_folder, refuse_unwritable, whole_file

_CLOCKS_DIFFER_S = 300.0  # difference between a file server and this machine

_Read = TypeVar("_Read")

# A training process may remove a checkpoint between the choice and the reading.
_LOOKS = 5

_LOCKS = re.compile(r"\.lock(\.held|\.taken)?")
# Files that `begin` leaves if it is killed before it has written the last one.
_BEGINNING = re.compile(
    rf"{_LOCKS.pattern}|run\.json|recipe\.py|{kept_code.FOLDER}|\.(run|recipe)\..+\.tmp|\.code\.tmp"
)


@dataclass(frozen=True)
class Run:
    """A run folder. engine/README.md lists its files.

    Attributes:
        folder: of the run.
        run_code: whether the user asked to run code that it keeps, see `engine.runs.kept_code`.
    """

    folder: Path
    run_code: bool = False

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The file metrics.jsonl: one JSON object per line, for a step or a validation."""
        return self.folder / "metrics.jsonl"

    @property
    def preview(self) -> Path:
        """The image of the last validation."""
        return self.folder / "preview.png"

    @property
    def tensorboard(self) -> Path:
        """The folder that TensorBoard reads."""
        return self.folder / "tensorboard"

    def fields(self) -> dict[str, Any]:
        """The resolved recipe as plain data.

        Raises:
            Mismatch: if the folder is not a run.
        """
        self._refuse_no_run()
        return serialization.read_fields(self.folder / "recipe.json")

    def recipe(self) -> Recipe:
        """The resolved recipe. Code that the run keeps is executed only with `run_code`.

        Raises:
            Mismatch: if the folder is not a run, or needs code that must not run.
            BadUsage: if that code fails.
        """
        return self._rebuilt(self.fields(), None)

    def recipe_by(self, wanted: Recipe) -> Recipe:
        """The resolved recipe of the run, with the parts of a recipe that has run in place of its.

        No code of the run folder is executed, if that recipe has foreign parts.

        Raises:
            Mismatch: as `recipe`, or if that recipe lacks a part of the run.
        """
        return self._rebuilt(self.fields(), foreign_parts.code_behind(wanted))

    def _rebuilt(self, fields: Mapping[str, Any], code: RecipeCode | None) -> Recipe:
        """The recipe of plain fields, its foreign parts from given code, else from the run's."""
        path = self.folder / "recipe.json"
        if code is None:
            code = kept_code.opened(self.folder, fields, trusted=self.run_code)
            return serialization.rebuilt(path, fields, code)
        try:
            return serialization.from_plain(fields, code)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            cause = f"is of another recipe, or damaged ({error})"
            raise Mismatch(path, cause, compatibility.ANEW.capitalize()) from error

    def record(self) -> RunRecord:
        """The content of run.json; empty if it is missing or damaged."""
        return read_record(self.folder)

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

    def checkpoint(self, which: str) -> Path:
        """The folder of a checkpoint: "best", "last", or a step.

        Raises:
            Mismatch: if there is no such checkpoint, or it is damaged.
        """
        return self._read(which, checkpoint.verified)[0]

    def opened(self, which: str) -> tuple[Path, Arrays]:
        """The folder of a checkpoint, as in `checkpoint`, and all its variables.

        Raises:
            Mismatch: if there is no such checkpoint, or it is damaged.
        """
        return self._read(which, checkpoint.load)

    def _read(self, which: str, read: Callable[[Path], _Read]) -> tuple[Path, _Read]:
        for _ in range(_LOOKS):
            try:
                path = self._chosen(which)
                return path, read(path)
            except Mismatch as refusal:
                if not self._is_gone(Path(refusal.path)):
                    raise
        cause = "is being saved faster than it can be read"
        raise Mismatch(self.folder, cause, "Try again")

    def _is_gone(self, path: Path) -> bool:
        """Whether a path is, or lies in, a checkpoint that a training has removed meanwhile."""
        if not path.is_relative_to(self.checkpoints) or path == self.checkpoints:
            return False
        return not (self.checkpoints / path.relative_to(self.checkpoints).parts[0]).exists()

    def _chosen(self, which: str) -> Path:
        found = checkpoint.steps(self.checkpoints)
        if not found:
            self._refuse_no_run()
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
        """Refuses a folder within a run.

        Raises:
            Mismatch: naming the run.
        """
        if (self.folder / "recipe.json").exists():
            return
        for place in self.folder.absolute().parents[:3]:
            if (place / "recipe.json").is_file():
                remedy = f"Name the run, {place}, and choose by --checkpoint or --from-checkpoint"
                raise Mismatch(self.folder, "is a part of a run", remedy)

    def _refuse_no_run(self) -> None:
        self.refuse_part()
        if not self.folder.is_dir():
            known = shipped_names()
            remedy = f"Name the folder of a run, or one of {', '.join(known)}"
            remedy = did_you_mean(self.folder.name, known, remedy)
            raise Mismatch(self.folder, "is no run folder and no network that ships", remedy)

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


def named_run(name: str | Path, run_code: bool = False) -> Run:
    """The run that a path, or the name of a network that ships, stands for.

    Args:
        name: such as runs/unet2d or ct_denoiser.
        run_code: see `Run`.

    Raises:
        BadUsage: if the name is that of a network that ships, and of a folder here.
    """
    return Run(folder_of(name), run_code)
