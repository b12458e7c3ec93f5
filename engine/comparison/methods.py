"""Methods of a comparison: classical methods and networks, from the words that name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.comparison.classical import METHODS
from engine.denoising.denoise import DenoiseSettings
from engine.errors import BadUsage, Mismatch, did_you_mean
from engine.inference.poses import poses_of
from engine.recipe.network_prior import parse_prior
from engine.recipe.shipped_networks import shipped_names
from engine.runs.prior_network import model_of
from engine.runs.run import named_run
from engine.runs.trained_model import Model, open_model
from volumes.sampling.priors import NeighbourMean

POSES = "+poses"  # see `resolve_methods`
_STRENGTH = "strength="
RECONSTRUCTION = "reconstruction"  # the label of the untouched scan in `engine characterize`
# Names that mean something else in tables. Labels are keys: a run of such a name would replace it.
RESERVED = frozenset({*METHODS, "clean", RECONSTRUCTION})


@dataclass(frozen=True)
class ComparedMethod:
    """One method of a comparison: a classical one or a network.

    Attributes:
        label: name in tables.
        classical: a name of `METHODS`; empty for a network.
        model: of a network, else None.
        prior: named by the user, else that of the network's training; None without either.
        settings: of a network, as of `engine denoise`: its poses and its strength.
    """

    label: str
    classical: str
    model: Model | None
    prior: NeighbourMean | None
    settings: DenoiseSettings = field(default_factory=DenoiseSettings)

    @property
    def is_oracle(self) -> bool:
        """Whether it receives the clean image."""
        return self.prior is not None and self.prior.of.is_oracle

    def behind(self) -> list[Model]:
        """The networks behind its estimate: its own, and that of its prior."""
        source = self.prior.of if self.prior else None
        second = [model_of(source)] if source is not None and source.network_run else []
        return ([self.model] if self.model else []) + second


def resolve_methods(
    words: Sequence[str], checkpoint: str, *, run_code: bool = False
) -> list[ComparedMethod]:
    """The methods of a comparison from the words of the command line, in their order.

    A word is a run folder or a name of `METHODS`. `@` and a prior after it replace its prior:
    `spade@tv`, `runs/respr@turned`, `prior@runs/unet2d`. `+poses` and `+strength=S` after a network
    are the options of `engine denoise`: `gaussian_denoiser+poses`, `ct_denoiser+strength=0.8`.

    Args:
        words: of the command line.
        checkpoint: of the runs: best, last or a step.
        run_code: whether the user asked to run code that the runs keep.

    Raises:
        BadUsage: if a word is neither, a prior is unknown, or a method takes no prior or options.
        Mismatch: if two methods have the same label, or a run cannot be used.
    """
    found = [_resolve(word, checkpoint, run_code) for word in words]
    for i, method in enumerate(found):
        if method.label in [other.label for other in found[:i]]:
            if not method.model:
                cause = f"is a second {method.label}"
                if words[i] not in words[:i]:
                    raise Mismatch(Path(words[i]), cause, "Rename the run of one of the priors")
                cause = "is named twice"
                raise BadUsage(words[i], cause, "Name each method once")
            cause = f"is a second run named {method.label}"
            raise Mismatch(Path(words[i]), cause, "Rename one of them")
    windows = [model.recipe.window for method in found for model in method.behind()]
    if not all(window.has_range_of(windows[0]) for window in windows):
        cause = "networks with different windows have no common score"
        first = next(method.label for method in found if method.behind())
        raise Mismatch(first, cause, "Compare runs with the same window")
    return found


def _options(word: str) -> tuple[str, str, DenoiseSettings]:
    """A word without its options, these options as they stand in tables, and as settings.

    Raises:
        BadUsage: if the strength is none.
    """
    found: dict[str, Any] = {}
    while not Path(word).is_dir():
        before, _, option = word.rpartition("+")
        if not before:
            break
        if option == POSES.removeprefix("+"):
            found["poses"] = True
        elif option.startswith(_STRENGTH):
            try:
                found["strength"] = float(option.removeprefix(_STRENGTH))
            except ValueError as error:
                remedy = f"Write such as +{_STRENGTH}0.8"
                raise BadUsage(word, f"has no strength {option!r}", remedy) from error
        else:
            break
        word = before
    settings = DenoiseSettings(**found)
    strength = f"+{_STRENGTH}{settings.strength:g}" if "strength" in found else ""
    return word, (POSES if settings.poses else "") + strength, settings


def _resolve(word: str, checkpoint: str, run_code: bool) -> ComparedMethod:
    plain, options, settings = _options(word)
    base, at, named = (plain, "", "") if Path(plain).is_dir() else plain.partition("@")
    given = parse_prior(named) if at else None
    if given is not None and given.of.network_run is not None:
        model_of(given.of, run_code=run_code)
    suffix = f"@{Path(named).name}" if at else ""
    if base in METHODS:
        if options:
            raise BadUsage(word, f"{base} is no network and takes no {options}", f"Name {base}")
        if given and not METHODS[base].sees_prior:
            raise BadUsage(word, f"{base} sees no prior", f"Name {base} alone")
        return ComparedMethod(base + suffix, base, None, given)
    run = named_run(base, run_code)
    if not run.folder.is_dir():
        known = [*shipped_names(), *METHODS]
        remedy = did_you_mean(base, known, f"Name a run folder, or one of {', '.join(known)}")
        raise BadUsage(word, "is not a method", remedy)
    name = run.folder.resolve().name
    if name in RESERVED:
        cause = f"is a run named {name}, which has another meaning in the tables"
        raise Mismatch(Path(base), cause, "Rename it")
    model = open_model(run, checkpoint)
    if given and not model.recipe.network.sees_prior:
        kind = type(model.recipe.network).__name__
        raise BadUsage(word, f"{kind} sees no prior", "Name the run alone")
    if settings.poses and len(poses_of(model.recipe.crop)) == 1:
        raise BadUsage(word, "was trained on upright slices", "Name the run alone")
    prior = given or model.recipe.prior
    return ComparedMethod(name + suffix + options, "", model, prior, settings)
