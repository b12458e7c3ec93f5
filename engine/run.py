"""The run folder: the notebook of one training."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import checkpoint, recipe
from engine.recipe import Recipe
from engine.refusals import Locked, Mismatch
from volumes import document
from volumes.atomic import cannot_write, make_folder, whole_file

# A run may be made longer, or saved and validated at other steps, without becoming another run.
MAY_CHANGE = ("steps", "validate_every", "checkpoint_every")

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
        return recipe.from_json(self.folder / "recipe.json")

    def about(self) -> dict[str, Any]:
        """What run.json says; empty where there is none."""
        try:
            content = document.read(self.folder / "run.json", most_bytes=_MOST_BYTES)
        except (OSError, ValueError):
            return {}
        return content if _is_told(content) else {}

    @property
    def begun(self) -> bool:
        """Whether `begin` has written anything here."""
        return bool(self.about()) or (self.folder / "recipe.json").exists()

    def learned_from(self) -> dict[str, str]:
        """The names of the cases that its weights have learned from, by the sha256 of their files.

        Those of the runs that it was started from are among them.
        """
        about = self.about()
        before: dict[str, str] = (about.get("started_from") or {}).get("trained_on", {})
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
        found = checkpoint.steps(self.checkpoints)
        if not found:
            raise Mismatch(self.folder, "has no checkpoint yet", "Train it with `engine fit`")
        last = self.checkpoints / f"step-{found[-1]:08d}"
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
        path = self.checkpoints / f"step-{step:08d}"
        checkpoint.verified(path)
        return path

    def begin(self, wanted: Recipe, source: Path, about: dict[str, Any]) -> None:
        """Writes what the run is, or checks that it is what it was.

        Raises:
            Mismatch: where the folder holds a run of another recipe, or of other cases.
        """
        self._refuse_foreign()
        remedy = "Choose another --run, or start anew with --fresh"
        if (self.folder / "recipe.json").exists():
            differing = recipe.differences(self.recipe(), wanted, but=MAY_CHANGE)
            if differing:
                cause = f"holds a run of another recipe ({'; '.join(differing[:3])})"
                raise Mismatch(self.folder, cause, remedy)
            before = self.about()
            for name in ("cases", "recordings"):
                if before.get(name, about.get(name)) != about.get(name):
                    raise Mismatch(self.folder, f"holds a run on other {name}", remedy)
        # In this order: a process killed between them must not lose from what the run was started.
        self._write("run.json", json.dumps(about, indent=2) + "\n")
        self._write("recipe.py", source.read_text())
        self._write("recipe.json", recipe.to_json(wanted))

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
        make_folder(self.folder)
        try:
            file = open(self.folder / ".lock", "a+")  # noqa: SIM115
        except OSError as error:
            raise cannot_write(self.folder / ".lock", error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().strip() or "another process"
                remedy = "Wait for it, or choose another --run"
                raise Locked(self.folder, f"is being trained by {holder}", remedy) from error
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
            yield


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
    """The run whose checkpoints changed last.

    Raises:
        Mismatch: where there is none.
    """
    runs = [path.parent for path in root.glob("*/checkpoints") if checkpoint.steps(path)]
    if not runs:
        remedy = "Name one by --model, or train one with `engine fit`"
        raise Mismatch(root, "holds no run with a checkpoint", remedy)
    return Run(max(runs, key=lambda path: (path / "checkpoints").stat().st_mtime_ns))
