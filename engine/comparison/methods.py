"""Entrants: the methods of a comparison, from the words that name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from engine.comparison.classical import METHODS
from engine.errors import BadUsage, Mismatch
from engine.inference.predictor import Predictor, photons_told
from engine.inference.tiling import blocks_of, plan
from engine.recipe.network_prior import Estimated, parse
from engine.runs.prior_network import model_of
from engine.runs.run import Run
from engine.runs.trained_model import Model, open_model
from volumes.sampling.noise import Noise
from volumes.sampling.prior_sources import Clean
from volumes.sampling.priors import NeighbourMean
from volumes.volume import SpacingMm, Unit


@dataclass(frozen=True)
class Entrant:
    """One method as it was named.

    Attributes:
        label: what tables call it.
        method: a name of `METHODS`; empty for a network.
        model: of a network, else None.
        prior: that was named for it, else that a network was trained with; None where neither is.
    """

    label: str
    method: str
    model: Model | None
    prior: NeighbourMean | None

    @property
    def is_oracle(self) -> bool:
        """Whether it is given the clean image."""
        return self.prior is not None and isinstance(self.prior.of, Clean)

    def behind(self) -> list[Model]:
        """The networks that have a say in its estimate: its own, and that of its prior."""
        source = self.prior.of if self.prior else None
        second = [model_of(source)] if isinstance(source, Estimated) else []
        return ([self.model] if self.model else []) + second


def entrants(words: Sequence[str], checkpoint: str) -> list[Entrant]:
    """The methods that words name, in their order.

    A word is a run folder or a name of `METHODS`; `@` and a prior after it give that prior in
    place of its own: `spade@tv`, `runs/respr@turned`, `prior@runs/unet2d`.

    Raises:
        BadUsage: where a word names neither, a prior is none or is given to what sees none.
        Mismatch: where two have one label, or a run cannot be used.
    """
    found = [_entrant(word, checkpoint) for word in words]
    for i, entrant in enumerate(found):
        if entrant.label in [other.label for other in found[:i]]:
            if not entrant.model:
                cause = f"is a second {entrant.label}"
                if words[i] not in words[:i]:
                    raise Mismatch(Path(words[i]), cause, "Rename the run of one of the priors")
                cause = "is named twice"
                raise BadUsage(words[i], cause, "Name each method once")
            cause = f"is a second run named {entrant.label}"
            raise Mismatch(Path(words[i]), cause, "Rename one of them")
    windows = [model.recipe.window for entrant in found for model in entrant.behind()]
    if not all(window.has_range_of(windows[0]) for window in windows):
        cause = "networks of different windows have no common score"
        first = next(entrant.label for entrant in found if entrant.behind())
        raise Mismatch(first, cause, "Compare runs of one window")
    return found


def _entrant(word: str, checkpoint: str) -> Entrant:
    base, at, named = (word, "", "") if Path(word).is_dir() else word.partition("@")
    given = parse(named) if at else None
    suffix = f"@{Path(named).name}" if at else ""
    if base in METHODS:
        if given and not METHODS[base].sees_prior:
            raise BadUsage(word, f"{base} sees no prior", f"Name {base} alone")
        return Entrant(base + suffix, base, None, given)
    if not Path(base).is_dir():
        raise BadUsage(word, "is no method", f"Name a run folder, or one of {', '.join(METHODS)}")
    name = Path(base).resolve().name
    if name in METHODS or name == "clean":
        cause = f"is a run named {name}, which means something else in the tables"
        raise Mismatch(Path(base), cause, "Rename it")
    model = open_model(Run(Path(base)), checkpoint)
    if given and not model.recipe.network.sees_prior:
        kind = type(model.recipe.network).__name__
        raise BadUsage(word, f"{kind} sees no prior", "Name the run alone")
    return Entrant(name + suffix, "", model, given or model.recipe.prior)


class Network:
    """A trained model as a method."""

    slicewise: ClassVar[bool] = False  # its tiles are planned for the whole volume

    def __init__(self, model: Model, photons: float | None = None) -> None:
        self._model, self._estimator = model, Predictor.of(model, photons)

    def __repr__(self) -> str:
        """What the table prints as the method's setting."""
        return f"{self._model.recipe.network} at step {self._model.step}"

    def estimate(
        self, noisy: Unit, sigma: float, spacing_mm: SpacingMm, prior: Unit | None
    ) -> Unit:
        """The network's estimate, (Z, Y, X) in window units."""
        network = self._model.recipe.network
        second = blocks_of(prior) if network.sees_prior and prior is not None else None
        z, y, x = noisy.shape
        whole: Unit = self._estimator.volume(plan((z, y, x), network), blocks_of(noisy), second)
        return whole


@dataclass
class Networks:
    """The networks among entrants; each is opened once, or once a dose if it is told one.

    Attributes:
        entrants: the networks, and whatever else.
    """

    entrants: Sequence[Entrant]
    _opened: dict[tuple[Path, float | None], Network] = field(default_factory=dict)

    def at(self, noise: Noise) -> dict[str, Network]:
        """The networks by label, told what they want to know of the noise."""
        return {e.label: self._network(e.model, noise) for e in self.entrants if e.model}

    def _network(self, model: Model, noise: Noise) -> Network:
        photons = photons_told(model.recipe.network, noise)
        key = (model.path, photons)
        if key not in self._opened:
            self._opened[key] = Network(model, photons)
        return self._opened[key]
