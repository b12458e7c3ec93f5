"""The run folder: recipe, record, checkpoints and metrics of one training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engine.checkpoints import checkpoint
from engine.checkpoints.archive import Arrays
from engine.errors import Mismatch, did_you_mean
from engine.recipe import foreign_parts, serialization
from engine.recipe.recipe import Recipe
from engine.recipe.recipe_code import RecipeCode
from engine.recipe.shipped_networks import folder_of, shipped_names
from engine.runs import compatibility, kept_code
from engine.runs.record import RunRecord, read_record

_Read = TypeVar("_Read")

# A training process may remove a checkpoint between the choice and the reading.
_LOOKS = 5


@dataclass(frozen=True)
class Run:
    """A run folder, to be read. engine/README.md lists its files.

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


def named_run(name: str | Path, run_code: bool = False) -> Run:
    """The run that a path, or the name of a network that ships, stands for.

    Args:
        name: such as runs/unet2d or ct_denoiser.
        run_code: see `Run`.

    Raises:
        BadUsage: if the name is that of a network that ships, and of a folder here.
    """
    return Run(folder_of(name), run_code)
