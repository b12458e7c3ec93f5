"""The prior at work: what a recipe or a command names becomes an image beside the noisy one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.refusals import BadUsage, Mismatch
from volumes.atomic import cannot_write
from volumes.crops import reflected
from volumes.priors import NeighbourMean
from volumes.sources import Clean, Noisy, SliceTV, Source, Turned
from volumes.tiles import padded
from volumes.volume import Volume

if TYPE_CHECKING:
    from engine.model import Model
    from engine.run import Run

_KINDS = "mean, noisy, tv, clean, turned or a run folder, each with :RADIUS where wanted"


@dataclass(frozen=True)
class Estimated:
    """The estimate of a trained 2D network, slice by slice: what Abascal et al. (2020) suggest.

    Attributes:
        run: its run folder. What is trained with it keeps a copy, and never looks there again.
        checkpoint: best, last or a step.
    """

    run: str
    checkpoint: str = "best"

    def image(self, clean: Any | None, noisy: Any, sigma: Any) -> Any:
        """The network's estimate of each slice; see `volumes.sources.Source`."""
        import tensorflow as tf

        model, stride = _network(self)
        _, _, height, width, _ = noisy.shape
        _, y, x = padded((1, height, width), stride)
        slices = tf.gather(noisy, reflected(0, y, height), axis=2)
        slices = tf.gather(slices, reflected(0, x, width), axis=3)
        return model(slices, training=False)[:, :, :height, :width]


def model_of(source: Estimated) -> Model:
    """The model behind an estimate.

    Raises:
        Mismatch: where the run cannot be used, sees a prior itself, or is no 2D network.
    """
    from engine.model import open_model
    from engine.run import Run

    model = open_model(Run(Path(source.run)), source.checkpoint)
    network = model.recipe.network
    if network.sees_prior or network.radius[0]:
        cause = f"holds a {type(network).__name__}; a prior is made slice by slice"
        raise Mismatch(Path(source.run), cause, "Name a run of a 2D network")
    return model


@cache
def _network(source: Estimated) -> tuple[Any, Any]:
    """The Keras model and its stride, made once a process."""
    model = model_of(source)
    return model.network(), model.recipe.network.stride


def parse(text: str) -> NeighbourMean:
    """The prior that a command names.

    `mean` (that of the recipes: nine noisy slices), `noisy`, `tv`, `clean` (an oracle), `turned` (a
    control), or a run folder, whose 2D network estimates each slice. `tv:1` averages the slices
    within 1 of each; without a number `tv`, `noisy` and a run's are taken as they are, `mean`,
    `clean` and `turned` over 4.

    Raises:
        BadUsage: where it names none.
    """
    name, _, radius = (
        text.rpartition(":") if text.rpartition(":")[2].isdecimal() else (text, "", "")
    )
    known: dict[str, tuple[Source, int]] = {
        "mean": (Noisy(), 4),
        "noisy": (Noisy(), 0),
        "tv": (SliceTV(), 0),
        "clean": (Clean(), 4),
        "turned": (Turned(), 4),
    }
    if name not in known and not (name and Path(name).is_dir()):
        raise BadUsage(text, "is no prior", f"Use {_KINDS}")
    source, usual = known.get(name, (Estimated(name), 0))
    return NeighbourMean(radius=int(radius) if radius else usual, of=source)


# -- In a run folder -------------------------------------------------------------------------------


def vet(prior: NeighbourMean | None, run: Run, scored: Sequence[Volume]) -> None:
    """Refuses a prior whose network cannot be used, or has seen what it will help to score.

    Args:
        prior: of the run's recipe.
        run: that is trained; with a copy of the network in its folder, the question is settled.
        scored: its volumes of validation and test.

    Raises:
        Mismatch: where that network cannot be used, or has seen a scored volume.
    """
    if prior is None or not isinstance(prior.of, Estimated) or _copy(run).exists():
        return
    if seen := model_of(prior.of).seen(scored):
        cause = f"was trained on {seen[0]}, which is to be scored"
        raise Mismatch(Path(prior.of.run), cause, "Use a network of the same split")


def adopt(prior: NeighbourMean | None, run: Run) -> None:
    """Copies the network of an estimated prior into a run's folder, once.

    A run is then whole: it trains, resumes and denoises without the other one.

    Raises:
        Mismatch: where that network cannot be used.
        CannotWrite: where the system refuses.
    """
    if prior is None or not isinstance(prior.of, Estimated) or _copy(run).exists():
        return
    model, target = model_of(prior.of), _copy(run)
    aside = target.with_name(".prior.tmp")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(model.path, aside / "checkpoints" / model.path.name)
        for name in ("recipe.json", "run.json"):
            shutil.copy(model.run.folder / name, aside / name)
        aside.rename(target)
    except OSError as error:
        raise cannot_write(target, error) from error


def _copy(run: Run) -> Path:
    return run.folder / "prior"


def settled(prior: NeighbourMean | None, run: Run) -> NeighbourMean | None:
    """The prior of a run's recipe, where an estimate is that of the copy in the run's folder."""
    if prior is None or not isinstance(prior.of, Estimated):
        return prior
    own = Estimated(str(_copy(run)), checkpoint="last")
    return replace(prior, of=own)


def load(source: Source) -> None:
    """Makes the network of an estimate; call it where variables may be made, before a graph is."""
    if isinstance(source, Estimated):
        _network(source)
