"""Fit request: the options of `engine fit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.errors import BadUsage
from engine.output_paths import named
from engine.recipe.recipe import Recipe
from engine.recipe.recipe_file import DEFAULT, find_recipe
from engine.training.observation import SCALARS, Observation
from volumes.nifti.read_options import STRICT, ReadOptions


@dataclass(frozen=True)
class FitRequest:
    """The options of `engine fit`. The Python API takes the same ones.

    Attributes:
        recipe: path of a recipe file, the name of one that ships, the folder of a run to resume, or
            a recipe. None is the recipe of the run in the run folder; without a run, the default
            recipe.
        overrides: fields of the recipe to replace, such as "batch=4".
        data: folder of the cases, or a file of pairs.
        run: run folder. None is runs/<name of the recipe>; a recipe without a file has no name.
        start: run whose weights a new run starts from.
        start_checkpoint: of that run: best, last or a step. None is best.
        fresh: start anew. An existing run is moved aside.
        accept_changes: continue with another recipe or other cases.
        skip_bad: leave out scans that cannot be used.
        dry_run: only print what would be done and what it would cost.
        time: in a dry run, time a few steps.
        json: in a dry run, print JSON.
        devices, precision, xla: how it is computed, not what.
        cache: where the volumes are held: disk (mapped into memory) or device.
        reading: options for reading scans.
        run_code: run code that the named runs keep, see `engine.runs.kept_code`.
        observation: what TensorBoard shows beside the scalars.
        command: its words, for run.json; empty takes those of the process.
        preset: overrides that belong to the recipe, as those of the demo do. A run that was begun
            with others on top of them goes on with those.

    Example:
        >>> FitRequest("unet2d", ("batch=8",), data=Path("kits19")).run_folder
        PosixPath('runs/unet2d')
    """

    recipe: str | Recipe | None
    overrides: tuple[str, ...] = ()
    data: Path = Path("data")
    run: Path | None = None
    start: Path | None = None
    start_checkpoint: str | None = None
    fresh: bool = False
    accept_changes: bool = False
    skip_bad: bool = False
    dry_run: bool = False
    time: bool = False
    json: bool = False
    devices: str = "auto"
    precision: str = "auto"
    xla: str = "auto"
    cache: str = "disk"
    reading: ReadOptions = STRICT
    run_code: bool = False
    observation: Observation = SCALARS
    command: tuple[str, ...] = ()
    preset: tuple[str, ...] = ()

    @property
    def run_folder(self) -> Path:
        """The run folder.

        Raises:
            BadUsage: if there is no such recipe, or it has no name.
        """
        if self.run is not None:
            return named(self.run)
        if isinstance(self.recipe, Recipe):
            cause = "is missing, and a recipe without a file has no name"
            raise BadUsage("--run", cause, "Name the run folder")
        file = _recipe_file(self.recipe)
        return Path(str(self.recipe)) if file is None else Path("runs") / file.stem

    @property
    def source(self) -> Path | None:
        """The recipe file; None if the recipe is that of the run in the run folder, or an object.

        Raises:
            BadUsage: if there is no such recipe, or the named run is not the one to train.
        """
        if isinstance(self.recipe, Recipe):
            return None
        if self.recipe is None:
            own = _is_run(self.run_folder) and not self.fresh
            return None if own else find_recipe(DEFAULT)
        file = _recipe_file(self.recipe)
        if file is None and self.fresh:
            cause = "is a run, and --fresh starts from a recipe"
            raise BadUsage(self.recipe, cause, "Name the recipe, and this folder with --run")
        if file is None and self.run_folder.resolve() != Path(self.recipe).resolve():
            cause = f"is a run, and --run is {self.run}"
            raise BadUsage(self.recipe, cause, "Name a recipe, or leave out --run")
        return file


def _recipe_file(name: str | None) -> Path | None:
    """The file of a recipe; None if the name is that of a run folder."""
    try:
        return find_recipe(name or DEFAULT)
    except BadUsage:
        if name and _is_run(Path(name)):
            return None
        raise


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.json").is_file()
