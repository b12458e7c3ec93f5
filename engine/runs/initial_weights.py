"""Initial weights: the checkpoint of another run that a run starts from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.checkpoints import checkpoint
from engine.checkpoints.archive import Arrays
from engine.errors import Mismatch
from engine.networks.widening import Widening
from engine.recipe.recipe import Recipe
from engine.recipe.serialization import differences
from engine.runs.record import RunRecord
from engine.runs.run import Run
from engine.runs.training_run import TrainingRun
from volumes.volume import Volume

_ANEW = "Choose another --run, or start anew with --fresh"


@dataclass(frozen=True)
class InitialWeights:
    """A checkpoint to start from, as recorded in run.json.

    Attributes:
        run: name of the run of the checkpoint.
        folder: of that run, absolute.
        step: of the checkpoint.
        sha256: of all its variables, from `checkpoint.fingerprint`.
        trained_on: the cases that its weights learned from, see `RunRecord.learned_from`.
    """

    run: str
    folder: str
    step: int
    sha256: str
    trained_on: dict[str, str]

    @property
    def path(self) -> Path:
        """The folder of the checkpoint."""
        return checkpoint.place(Run(Path(self.folder)).checkpoints, self.step)

    def weights(self) -> Arrays:
        """Every variable of the network by name, without the state of the optimizer.

        Raises:
            Mismatch: if the checkpoint is missing, damaged or changed.
        """
        remedy = "Restore it, or start anew with --fresh"
        if not self.path.is_dir():
            raise Mismatch(self.path, "no longer exists, and the run starts from it", remedy)
        checkpoint.verified(self.path)
        if checkpoint.fingerprint(self.path) != self.sha256:
            cause = "holds other weights than when the run was started from it"
            raise Mismatch(self.path, cause, remedy)
        return checkpoint.weights(checkpoint.load(self.path))

    def about(self) -> dict[str, Any]:
        """Plain data for run.json."""
        return asdict(self)


def find_initial_weights(source: Run, which: str, recipe: Recipe, run: Run) -> InitialWeights:
    """The initial weights that a command requests.

    Args:
        source: the run to start from.
        which: of its checkpoints: "best", "last" or a step.
        recipe: of the new run.
        run: the new run.

    Raises:
        Mismatch: if there is no such checkpoint, or it is damaged or of another network that cannot
            be widened to that of the recipe.
    """
    if source.folder.resolve() == run.folder.resolve():
        raise Mismatch(source.folder, "cannot start from itself", "Choose another --run")
    before = source.recipe()
    differing = [text for text in differences(before, recipe) if text.startswith("network.")]
    wide = recipe.network
    if differing and not (isinstance(wide, Widening) and wide.widens(before.network)):
        cause = f"holds another network ({'; '.join(differing[:3])})"
        raise Mismatch(source.folder, cause, "Give the recipe the same network fields")
    path = source.checkpoint(which)
    return InitialWeights(
        run=source.folder.resolve().name,
        folder=str(source.folder.resolve()),
        step=checkpoint.verified(path).step,
        sha256=checkpoint.fingerprint(path),
        trained_on=source.record().learned_from,
    )


def agreed(
    run: TrainingRun, record: RunRecord, asked: InitialWeights | None
) -> InitialWeights | None:
    """The initial weights of a run: those requested, or those in run.json; None without any.

    Args:
        run: may have been started before.
        record: of the run.
        asked: those that the command requests, if any.

    Raises:
        Mismatch: if the run was started from other weights.
    """
    recorded = _recorded(run, record)
    if asked is None or not run.begun(record):
        return asked or recorded
    if recorded is None:
        raise Mismatch(run.folder, "was not started from other weights", _ANEW)
    if recorded.sha256 != asked.sha256:
        cause = (
            f"was started from other weights: {recorded.run} at step {recorded.step:,}, "
            f"not {asked.run} at step {asked.step:,}"
        )
        raise Mismatch(run.folder, cause, "Leave out --from, or choose another --run")
    return asked


def _recorded(run: Run, record: RunRecord) -> InitialWeights | None:
    content = record.started_from
    try:
        return None if content is None else InitialWeights(**content)
    except TypeError as error:
        cause = "does not record the weights that the run was started from"
        raise Mismatch(run.folder / "run.json", cause, _ANEW) from error


def refuse_seen(start: InitialWeights, volumes: dict[str, list[Volume]]) -> list[str]:
    """Refuses to score a run on cases that its initial weights learned from.

    Args:
        start: the initial weights.
        volumes: of the run, by side of the split.

    Returns:
        The scored cases with the same name as a training case, but another file.

    Raises:
        Mismatch: naming the first case that was learned from and would be scored.
    """
    scored = [(side, volume) for side in ("validation", "test") for volume in volumes[side]]
    for side, volume in scored:
        if known := [sha256 for sha256 in volume.hashes if sha256 in start.trained_on]:
            cause = f"is for {side}, and {start.run} has learned from it"
            if start.trained_on[known[0]] != volume.case:
                cause += f" as {start.trained_on[known[0]]}"
            remedy = "Set split.validation and split.test to cases that it has not seen"
            raise Mismatch(volume.case, cause, remedy)
    return sorted({volume.case for _, volume in scored} & set(start.trained_on.values()))
