"""The run folder: the notebook of one training."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
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
from volumes.storage import json_files
from volumes.storage.atomic import make_folder, whole_file

_CLOCKS_DIFFER_S = 300.0  # of a file server and this machine

_Read = TypeVar("_Read")

# A process that trains may remove a checkpoint between the look at it and its reading.
_LOOKS = 5

# What `begin` leaves where it is killed, its last file not yet written.
_BEGINNING = re.compile(r"\.lock|run\.json|recipe\.py|\.(run|recipe)\..+\.tmp")

_MOST_BYTES = 64 * 2**20  # run.json names every case: a set of pairs may have many thousands


@dataclass(frozen=True)
class Run:
    """A run folder; see the README for what lies in it."""

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

    def about(self) -> dict[str, Any]:
        """What run.json says; empty where there is none, or not what `begin` writes."""
        try:
            content = self._told()
        except (OSError, ValueError):
            return {}
        return content if _is_told(content) else {}

    def _told(self) -> Any:
        return json_files.read(self.folder / "run.json", most_bytes=_MOST_BYTES)

    @property
    def begun(self) -> bool:
        """Whether `begin` has written anything here."""
        return bool(self.about()) or (self.folder / "recipe.json").exists()

    def learned_from(self) -> dict[str, str]:
        """The names of the cases that its weights have learned from, by the sha256 of their files.

        Those of the runs that it was started from are among them, and those that it had before its
        cases were changed.
        """
        about = self.about()
        before: dict[str, str] = dict((about.get("started_from") or {}).get("trained_on", {}))
        for change in self.changes():
            before |= change["learned_from"]
        training = about.get("cases", {}).get("training", {})
        return {**before, **{sha256: name for name, sha256 in training.items()}}

    @property
    def tells_what_it_learned_from(self) -> bool:
        """Whether its cases are known, and those of the runs that it was started from."""
        about = self.about()
        before = about.get("started_from")
        told = bool(about.get("cases", {}).get("training"))
        return told and (before is None or bool(before.get("trained_on")))

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

    @property
    def recipes(self) -> list[str]:
        """Fingerprints of the recipes that it was trained by, the last one last."""
        known = self.about().get("recipes", [])
        return known if isinstance(known, list) else []

    def note_saved(self) -> None:
        """Notes that it has a checkpoint: from then on, one that has none is never begun anew.

        Raises:
            CannotWrite: where the system refuses.
        """
        about = self.about()
        if not about.get("saved") and self.begun:
            self._write("run.json", json.dumps(about | {"saved": True}, indent=2) + "\n")

    def newest(self, warn: Callable[[str], None]) -> Progress | None:
        """The newest checkpoint that verifies; damaged ones are set aside and said so.

        Returns:
            None where the run has never been saved.

        Raises:
            Mismatch: where it has, and nothing that verifies is left.
        """
        found = checkpoint.newest(self.checkpoints, warn)
        if found is None and self.about().get("saved"):
            cause = "was saved, and its checkpoints are gone"
            raise Mismatch(self.folder, cause, "Bring them back, or start anew with --fresh")
        return found

    def refuse_untold(self) -> None:
        """Refuses to go on where run.json is damaged or gone.

        What a run has learned from stands there alone, and is not guessed.

        Raises:
            Mismatch: naming it.
        """
        if not checkpoint.steps(self.checkpoints):
            return
        path, remedy = self.folder / "run.json", "Bring it back, or start anew with --fresh"
        try:
            content = self._told()
        except OSError as error:
            cause = f"cannot be read ({error.strerror or error}), and tells what the run has seen"
            raise Mismatch(path, cause, remedy) from error
        except ValueError as error:
            cause = f"is damaged ({error}), and tells what the run has seen"
            raise Mismatch(path, cause, remedy) from error
        if not _is_told(content) or "cases" not in content:
            raise Mismatch(path, "does not tell what the run has seen", remedy)

    def sweep(self) -> None:
        """Removes what killed processes left half-written; call it while holding the lock."""
        checkpoint.sweep(self.checkpoints)
        for aside in self.folder.glob(".*.tmp"):
            if aside.is_dir() and not aside.is_symlink():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                aside.unlink(missing_ok=True)

    def refuse_changed(
        self, wanted: Recipe, about: dict[str, Any] | None = None, *, accepted: bool
    ) -> list[compatibility.Changes]:
        """Refuses to go on with another recipe or other cases, as far as that may not be.

        Args:
            wanted: the recipe.
            about: its cases, where they are known yet.
            accepted: whether the user consents to changes of what is learned.

        Returns:
            What changes: of the recipe, and of the cases.

        Raises:
            Mismatch: where the folder holds a run of another recipe, or of other cases.
        """
        if not (self.folder / "recipe.json").exists():
            return []
        found = [compatibility.of_recipe(self.recipe(), wanted)]
        if about is not None:
            found.append(compatibility.of_cases(self.about(), about, wanted))
        for change in found:
            change.refuse(self.folder, accepted=accepted)
        if about is not None and found[-1].learned:
            compatibility.refuse_learned_from(self.folder, self.learned_from(), about["cases"])
        return found

    def begin(
        self, wanted: Recipe, source: Path, about: dict[str, Any], *, accepted: bool = False
    ) -> None:
        """Writes what the run is, or checks that it is what it was; accepted changes are noted.

        Raises:
            Mismatch: where the folder holds a run of another recipe, or of other cases.
        """
        self._refuse_foreign()
        recipes = self.recipes
        if (self.folder / "recipe.json").exists() and not recipes:
            recipes = [serialization.fingerprint(self.recipe(), but=compatibility.MAY_CHANGE)]
        found = self.refuse_changed(wanted, about, accepted=accepted)
        noted = self.changes()
        if any(change.learned for change in found):
            noted.append(
                {
                    "from_step": max(checkpoint.steps(self.checkpoints), default=0),
                    "changed": [text for change in found for text in change.learned],
                    "rescored": any(change.rescored for change in found),
                    "learned_from": self.learned_from(),
                }
            )
        mine = serialization.fingerprint(wanted, but=compatibility.MAY_CHANGE)
        about = about | {"recipes": [*(known for known in recipes if known != mine), mine]}
        if self.about().get("saved"):
            about["saved"] = True
        about = about | ({"changes": noted} if noted else {})
        # In this order: a process killed between them must not lose from what the run was started.
        self._write("run.json", json.dumps(about, indent=2) + "\n")
        self._write("recipe.py", source.read_text())
        self._write("recipe.json", serialization.to_json(wanted))

    def changes(self) -> list[dict[str, Any]]:
        """The changes that were accepted so far, and from which step on, oldest first."""
        return list(self.about().get("changes", []))

    def _refuse_foreign(self) -> None:
        """A folder of something else is neither written into nor moved."""
        if not self.folder.exists() or (self.folder / "recipe.json").exists():
            return
        kept = _BEGINNING if "cases" in self.about() else re.compile(r"\.lock")
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
        self._refuse_foreign()
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


def _is_told(content: Any) -> bool:
    """Whether what run.json holds is what `begin` writes, as far as it is relied on."""
    if not isinstance(content, dict):
        return False
    parts = [content.get("cases", {}), content.get("recordings", {})]
    parts.append(content.get("started_from") or {})
    if not all(isinstance(part, dict) for part in parts):
        return False
    return all(isinstance(part, dict) for part in parts[0].values())


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
