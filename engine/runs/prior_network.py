"""The network of a prior: loaded, checked, and copied into the run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, cast

from engine.checkpoints import checkpoint
from engine.errors import BadUsage, Mismatch
from engine.recipe.network_prior import KINDS, Estimated, copy_in
from engine.recipe.recipe import Recipe
from engine.runs import kept_code
from engine.runs.run import Run, named_run
from engine.runs.trained_model import Model, open_model
from volumes.boxes import reflected
from volumes.sampling.prior_sources import Source
from volumes.sampling.priors import NeighbourMean
from volumes.storage.atomic import cannot_write
from volumes.tiles import padded
from volumes.volume import Shape, Volume
from volumes.window import Window


@dataclass(frozen=True)
class NetworkSource:
    """A prior's source: the estimate of a loaded 2D network.

    Attributes:
        network: the Keras model with its weights.
        stride: slices are padded to a multiple of it, by reflection.
    """

    network: Any
    stride: Shape

    is_noisy: ClassVar[bool] = False
    is_oracle: ClassVar[bool] = False
    needs_sigma: ClassVar[bool] = False
    network_run: ClassVar[None] = None  # it is loaded

    def image(self, clean: Any | None, noisy: Any, sigma: Any) -> Any:
        """The network's estimate of each slice; see `volumes.sampling.prior_sources.Source`."""
        import tensorflow as tf

        _, _, height, width, _ = noisy.shape
        _, y, x = padded((1, height, width), self.stride)
        slices = tf.gather(noisy, reflected(0, y, height), axis=2)
        slices = tf.gather(slices, reflected(0, x, width), axis=3)
        return self.network(slices, training=False)[:, :, :height, :width]


def loaded_source(source: Source) -> Source:
    """The prior's source, its network loaded.

    Call it where variables may be created, before a graph is traced.

    Raises:
        Mismatch: if the network of an estimate cannot be used.
    """
    return source if source.network_run is None else _slices(source)


@cache
def _slices(source: Source) -> NetworkSource:
    """The source of an estimate, made once per process."""
    model = model_of(source)
    return NetworkSource(model.network(), model.recipe.network.stride)


def model_of(source: Source, *, run_code: bool = False) -> Model:
    """The trained model of an estimate.

    Args:
        source: that names a run.
        run_code: whether the user asked to run code that this run keeps.

    Raises:
        BadUsage: if there is no such folder.
        Mismatch: if the run cannot be used, or its network sees a prior or the dose, or is not 2D.
    """
    named = cast(Estimated, source)  # the only one that names a network
    run = named_run(named.network_run, run_code)
    if not run.folder.is_dir():
        raise BadUsage(named.network_run, "is no prior", f"Use {KINDS}")
    model = open_model(run, named.checkpoint)
    network = model.recipe.network
    if network.sees_prior or network.radius[0]:
        cause = f"holds a {type(network).__name__}; a prior is made slice by slice"
        raise Mismatch(Path(named.network_run), cause, "Name a run of a 2D network")
    if network.sees_dose:
        cause = "holds a network that sees the dose, but a prior is given none"
        raise Mismatch(Path(named.network_run), cause, "Name a run without network.sees_dose")
    return model


@dataclass(frozen=True)
class PriorNetwork:
    """The network of a run's prior, loaded once and checked.

    Attributes:
        model: None if the prior needs no network, or the run has its copy already.
    """

    model: Model | None

    def refuse_seen(self, scored: Sequence[Volume]) -> None:
        """Refuses a network that was trained on cases that the run scores.

        Args:
            scored: the volumes of validation and test.

        Raises:
            Mismatch: naming the first such case.
        """
        if self.model is not None and (seen := self.model.seen(scored)):
            cause = f"was trained on {seen[0]}, which this run scores"
            raise Mismatch(self.model.run.folder, cause, "Use a network of the same split")

    def refuse_lost(self, run: Run) -> None:
        """Refuses to replace the copy of a run that was trained with it.

        Raises:
            Mismatch: if that copy no longer exists.
        """
        target = copy_in(run.folder)
        if self.model is not None and not target.exists() and checkpoint.steps(run.checkpoints):
            cause = "no longer exists, and the run was trained with it"
            raise Mismatch(target, cause, "Restore it, or start anew with --fresh")

    def copy_into(self, run: Run) -> None:
        """Copies the network into the run folder, once.

        The run is then complete: it trains, resumes and denoises without the other run.

        Raises:
            Mismatch: if the run was trained with a copy that no longer exists.
            CannotWrite: if the copy cannot be written.
        """
        target = copy_in(run.folder)
        if self.model is None or target.exists():
            return
        self.refuse_lost(run)
        model = self.model
        with _whole_folder(target) as aside:
            shutil.copytree(model.path, aside / "checkpoints" / model.path.name)
            for name in ("recipe.json", "run.json"):
                shutil.copy(model.run.folder / name, aside / name)
            kept_code.copy(model.run.folder, model.run.fields(), aside)


def copy_on(source: Run, run: Run) -> None:
    """Copies the copy of a run into another run, which then is complete, too.

    Raises:
        CannotWrite: if it cannot be written.
    """
    network, target = copy_in(source.folder), copy_in(run.folder)
    if network.exists() and not target.exists():
        with _whole_folder(target) as aside:
            shutil.copytree(network, aside)


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A place beside a folder, which gets its name at the end.

    Raises:
        CannotWrite: if the system reports an error.
    """
    aside = target.with_name(f".{target.name}.tmp")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        yield aside
        aside.rename(target)
    except OSError as error:
        raise cannot_write(target, error) from error


def as_recorded(recipe: Recipe, run: Run) -> Recipe:
    """The recipe, its prior named as in the run, if the named network is the one in its copy.

    The other run may have been renamed, or be named by another path.

    Args:
        recipe: that is requested.
        run: that is resumed, if its folder contains one.
    """
    copy = copy_in(run.folder)
    if recipe.prior is None or not copy.exists() or not (run.folder / "recipe.json").exists():
        return recipe
    before, named = run.recipe_by(recipe).prior, recipe.prior.of.network_run
    if before is None or before.of == recipe.prior.of or named is None or not Path(named).is_dir():
        return recipe
    held = open_model(Run(copy, run.run_code), "last")
    if model_of(recipe.prior.of, run_code=run.run_code).sha256 != held.sha256:
        return recipe
    return replace(recipe, prior=replace(recipe.prior, of=before.of))


def resolve(prior: NeighbourMean | None, window: Window, run: Run) -> PriorNetwork:
    """The network of a prior, checked.

    Args:
        prior: of the run's recipe.
        window: of the run's recipe. The network gets slices in its units.
        run: that is trained. If its folder has a copy of the network, nothing is loaded here.

    Raises:
        BadUsage: if there is no such network.
        Mismatch: if it cannot be used, or was trained in another window.
    """
    if prior is None or prior.of.network_run is None:
        return PriorNetwork(None)
    if (copy := copy_in(run.folder)).exists():
        Run(copy, run.run_code).recipe()
        return PriorNetwork(None)
    model = model_of(prior.of, run_code=run.run_code)
    other = model.recipe.window
    if not other.has_range_of(window):
        cause = f"was trained in the window [{other.low_hu:g}, {other.high_hu:g}] HU"
        remedy = f"Name a run of the window [{window.low_hu:g}, {window.high_hu:g}] HU"
        raise Mismatch(Path(prior.of.network_run), cause, remedy)
    return PriorNetwork(model)
