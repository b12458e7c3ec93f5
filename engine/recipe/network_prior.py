"""Network priors: the network whose estimate a prior averages, by name."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from engine.errors import BadUsage
from engine.recipe.shipped_networks import shipped_names
from volumes.sampling.prior_sources import Clean, Noisy, SliceTV, Source, Turned
from volumes.sampling.priors import NeighbourMean

KINDS = (
    "mean, noisy, tv, clean, turned, a network that ships or a run folder, each with an optional "
    ":RADIUS"
)


@dataclass(frozen=True)
class Estimated:
    """The estimate of a trained 2D network, slice by slice, as in Abascal et al. (2020).

    Plain data. `engine.runs.prior_network.loaded_source` loads the network.

    Attributes:
        run: its run folder. A run trained with it keeps a copy, and does not read it again.
        checkpoint: best, last or a step.
    """

    run: str
    checkpoint: str = "best"

    is_noisy: ClassVar[bool] = False
    is_oracle: ClassVar[bool] = False
    needs_sigma: ClassVar[bool] = False

    @property
    def network_run(self) -> str:
        """The run folder. "~" is the home folder."""
        return os.path.expanduser(self.run)

    def image(self, clean: Any | None, noisy: Any, sigma: Any) -> Any:
        """Raises an error: the network must be loaded first.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"the network of {self} has not been loaded")


def parse_prior(text: str) -> NeighbourMean:
    """The prior with a name, as given on the command line.

    `mean` (nine noisy slices, as in the recipes), `noisy`, `tv`, `clean` (an oracle), `turned` (a
    control), or a run folder, whose 2D network estimates each slice. `tv:1` averages the slices
    within a radius of 1. The default radius is 0 for `tv`, `noisy` and a run, and 4 for `mean`,
    `clean` and `turned`. A path need not exist: a run that was trained with it has a copy, and is
    resumed by the same command. A missing network is refused when it is loaded.

    Raises:
        BadUsage: if there is no such prior.
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
    named = name in known or name in shipped_names()
    if not named and os.sep not in name and not (name and Path(name).is_dir()):
        raise BadUsage(text, "is no prior", f"Use {KINDS}")
    source, usual = known.get(name, (Estimated(name), 0))
    return NeighbourMean(radius=int(radius) if radius else usual, of=source)


def resolved(prior: NeighbourMean | None, run_folder: Path) -> NeighbourMean | None:
    """The prior of a run's recipe. Its network is the copy in the run folder."""
    if prior is None or prior.of.network_run is None:
        return prior
    return replace(prior, of=Estimated(str(copy_in(run_folder)), checkpoint="last"))


def copy_in(run_folder: Path) -> Path:
    """The folder of a run's copy of the prior's network."""
    return run_folder / "prior"
