"""Estimated priors: how a recipe names the network whose estimate its prior averages."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import BadUsage
from volumes.sampling.prior_sources import Clean, Noisy, SliceTV, Source, Turned
from volumes.sampling.priors import NeighbourMean

KINDS = "mean, noisy, tv, clean, turned or a run folder, each with :RADIUS where wanted"


@dataclass(frozen=True)
class Estimated:
    """The estimate of a trained 2D network, slice by slice: what Abascal et al. (2020) suggest.

    Plain data, as all of a recipe: `engine.runs.prior_network.opened` makes the source that works.

    Attributes:
        run: its run folder. What is trained with it keeps a copy, and never looks there again.
        checkpoint: best, last or a step.
    """

    run: str
    checkpoint: str = "best"

    def image(self, clean: Any | None, noisy: Any, sigma: Any) -> Any:
        """Nothing yet: the network has to be opened first.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"the network of {self} has not been opened")


def parse(text: str) -> NeighbourMean:
    """The prior that a command names.

    `mean` (that of the recipes: nine noisy slices), `noisy`, `tv`, `clean` (an oracle), `turned` (a
    control), or a run folder, whose 2D network estimates each slice. `tv:1` averages the slices
    within 1 of each; without a number `tv`, `noisy` and a run's are taken as they are, `mean`,
    `clean` and `turned` over 4. A path need not lead to a run any more: what was trained with one
    goes on by the same words. Whoever opens its network refuses it where it is gone.

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
    if name not in known and os.sep not in name and not (name and Path(name).is_dir()):
        raise BadUsage(text, "is no prior", f"Use {KINDS}")
    source, usual = known.get(name, (Estimated(name), 0))
    return NeighbourMean(radius=int(radius) if radius else usual, of=source)


def settled(prior: NeighbourMean | None, run_folder: Path) -> NeighbourMean | None:
    """The prior of a run's recipe, where an estimate is that of the copy in the run's folder."""
    if prior is None or not isinstance(prior.of, Estimated):
        return prior
    return replace(prior, of=Estimated(str(copy_in(run_folder)), checkpoint="last"))


def copy_in(run_folder: Path) -> Path:
    """Where a run keeps its copy of the prior's network."""
    return run_folder / "prior"
