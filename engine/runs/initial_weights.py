"""The origin: the checkpoint of another run whose weights a run starts from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.checkpoints import checkpoint
from engine.checkpoints.archive import Arrays
from engine.errors import Mismatch
from engine.recipe.recipe import Recipe
from engine.recipe.serialization import differences
from engine.runs.record import RunRecord
from engine.runs.run import Run
from volumes.volume import Volume

_ANEW = "Choose another --run, or start anew with --fresh"


@dataclass(frozen=True)
class Origin:
    """A checkpoint to start from, as run.json keeps it.

    Attributes:
        run: name of the run that it belongs to.
        folder: of that run, absolute.
        step: of the checkpoint.
        sha256: of its every variable, as `checkpoint.fingerprint` has it.
        trained_on: what its weights have learned from, as `RunRecord.learned_from` has it.
    """

    run: str
    folder: str
    step: int
    sha256: str
    trained_on: dict[str, str]

    @property
    def path(self) -> Path:
        """The checkpoint's folder."""
        return Run(Path(self.folder)).checkpoints / f"step-{self.step:08d}"

    def weights(self) -> Arrays:
        """Every variable of the network by name; the optimizer's state is left behind.

        Raises:
            Mismatch: where the checkpoint is gone, damaged, or no longer what it was.
        """
        remedy = "Bring it back, or start anew with --fresh"
        if not self.path.is_dir():
            raise Mismatch(self.path, "is gone, and a run was to start from it", remedy)
        checkpoint.verified(self.path)
        if checkpoint.fingerprint(self.path) != self.sha256:
            cause = "holds other weights than those that a run was to start from"
            raise Mismatch(self.path, cause, remedy)
        return checkpoint.weights(checkpoint.load(self.path))

    def about(self) -> dict[str, Any]:
        """Plain data for run.json."""
        return asdict(self)


def find(source: Run, which: str, recipe: Recipe, run: Run) -> Origin:
    """The origin that a command asks for.

    Args:
        source: the run to start from.
        which: of its checkpoints: "best", "last" or a step.
        recipe: of the run that starts.
        run: that run.

    Raises:
        Mismatch: where there is no such checkpoint, it is damaged, or of another network.
    """
    if source.folder.resolve() == run.folder.resolve():
        raise Mismatch(source.folder, "cannot start from itself", "Choose another --run")
    before = source.recipe()
    differing = [text for text in differences(before, recipe) if text.startswith("network.")]
    if differing:
        cause = f"holds another network ({'; '.join(differing[:3])})"
        raise Mismatch(source.folder, cause, "Give the recipe the same network fields")
    path = source.checkpoint(which)
    return Origin(
        run=source.folder.resolve().name,
        folder=str(source.folder.resolve()),
        step=checkpoint.verified(path).step,
        sha256=checkpoint.fingerprint(path),
        trained_on=source.record().learned_from,
    )


def agreed(run: Run, record: RunRecord, asked: Origin | None) -> Origin | None:
    """What a run starts from, or has started from; run.json remembers it.

    Args:
        run: that may have been started before.
        record: of the run.
        asked: what the command asks for, if anything.

    Raises:
        Mismatch: where the run was started from other weights.
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
        raise Mismatch(run.folder, cause, "Go on without --from, or choose another --run")
    return asked


def _recorded(run: Run, record: RunRecord) -> Origin | None:
    content = record.started_from
    try:
        return None if content is None else Origin(**content)
    except TypeError as error:
        cause = "does not tell from which weights it was started"
        raise Mismatch(run.folder / "run.json", cause, _ANEW) from error


def refuse_seen(origin: Origin, volumes: dict[str, list[Volume]]) -> list[str]:
    """Refuses to score on what the weights have learned from.

    Args:
        origin: of the weights.
        volumes: of each side of the run's split.

    Returns:
        The cases that are scored and share no more than their name with one that was learned from.

    Raises:
        Mismatch: naming the first case that both learned from and would be scored on.
    """
    scored = [(side, volume) for side in ("validation", "test") for volume in volumes[side]]
    for side, volume in scored:
        if volume.sha256 in origin.trained_on:
            cause = f"is for {side}, and {origin.run} has learned from it"
            if origin.trained_on[volume.sha256] != volume.case:
                cause += f" as {origin.trained_on[volume.sha256]}"
            remedy = "Set split.validation and split.test to cases that it has not seen"
            raise Mismatch(volume.case, cause, remedy)
    return sorted({volume.case for _, volume in scored} & set(origin.trained_on.values()))
