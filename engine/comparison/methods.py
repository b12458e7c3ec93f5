"""Methods of a comparison: classical methods and networks, from the words that name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from engine.comparison.classical import METHODS
from engine.denoising.finishing import finished
from engine.errors import BadUsage, Mismatch, did_you_mean
from engine.inference.poses import poses_of
from engine.inference.predictor import Predictor, photons_told
from engine.inference.tiling import blocks_of, plan
from engine.recipe.network_prior import parse_prior
from engine.recipe.shipped_networks import shipped_names
from engine.runs.prior_network import model_of
from engine.runs.run import named_run
from engine.runs.trained_model import Model, open_model
from volumes.sampling.noise import Noise
from volumes.sampling.priors import NeighbourMean
from volumes.volume import SpacingMm, Unit

POSES = "+poses"  # at the end of a word: see `resolve_methods`
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
        poses: whether the network's estimates of the turned and mirrored slices are averaged.
    """

    label: str
    classical: str
    model: Model | None
    prior: NeighbourMean | None
    poses: bool = False

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
    `spade@tv`, `runs/respr@turned`, `prior@runs/unet2d`. `+poses` at the end averages the estimates
    of a network over the poses of slices: `gaussian_denoiser+poses`.

    Args:
        words: of the command line.
        checkpoint: of the runs: best, last or a step.
        run_code: whether the user asked to run code that the runs keep.

    Raises:
        BadUsage: if a word is neither, a prior is unknown, or a method takes no prior or poses.
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


def _resolve(word: str, checkpoint: str, run_code: bool) -> ComparedMethod:
    plain = word if Path(word).is_dir() else word.removesuffix(POSES)
    poses = plain != word
    base, at, named = (plain, "", "") if Path(plain).is_dir() else plain.partition("@")
    given = parse_prior(named) if at else None
    if given is not None and given.of.network_run is not None:
        model_of(given.of, run_code=run_code)
    suffix = f"@{Path(named).name}" if at else ""
    if base in METHODS:
        if poses:
            raise BadUsage(word, f"{base} is no network, which alone has poses", f"Name {base}")
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
    if poses and len(poses_of(model.recipe.crop)) == 1:
        raise BadUsage(word, "was trained on upright slices", "Name the run alone")
    label = name + suffix + (POSES if poses else "")
    return ComparedMethod(label, "", model, given or model.recipe.prior, poses)


class Network:
    """A trained model as a method.

    Args:
        model: of a run.
        photons: per ray of the scans, for a dose-aware network.
        keeps_bone: whether bone and metal keep their values, as in the files of `engine denoise`;
            else the network's own estimate is scored, as in Abascal et al. (2020).
        poses: whether the estimates of the turned and mirrored slices are averaged.
    """

    slicewise: ClassVar[bool] = False  # its tiles are planned for the whole volume

    def __init__(
        self, model: Model, photons: float | None = None, *, keeps_bone: bool = True,
        poses: bool = False,
    ) -> None:  # fmt: skip
        self._keeps_bone, self._poses = keeps_bone, poses
        self._model, self._estimator = model, Predictor.of(model, photons, poses=poses)

    @property
    def sees_prior(self) -> bool:
        """Whether the network has a prior as its second input."""
        return self._model.recipe.network.sees_prior

    def __repr__(self) -> str:
        """The setting of the method in the report."""
        averaged = ", mean of the poses of slices" if self._poses else ""
        return f"{self._model.recipe.network} at step {self._model.step}{averaged}"

    def estimate(
        self, noisy: Unit, sigma: float, spacing_mm: SpacingMm, prior: Unit | None
    ) -> Unit:
        """The estimate that is scored, (Z, Y, X) in window units."""
        if not self._keeps_bone:
            return self.raw(noisy, prior)
        window, seen = self._model.recipe.window, self._model.recipe.seen(noisy)
        estimate = self.raw(seen, prior)
        return window.unit(finished(window.hu(noisy), seen, estimate, window, spacing_mm))

    def raw(self, noisy: Unit, prior: Unit | None) -> Unit:
        """The network's own estimate of what it is given, (Z, Y, X) in window units."""
        network = self._model.recipe.network
        second = blocks_of(prior) if network.sees_prior and prior is not None else None
        z, y, x = noisy.shape
        whole: Unit = self._estimator.volume(plan((z, y, x), network), blocks_of(noisy), second)
        return whole


@dataclass
class Networks:
    """The networks of a comparison. Each is loaded once, a dose-aware network once a dose.

    Attributes:
        methods: of the comparison; classical ones are skipped.
        keep_bone: see `Network`.
    """

    methods: Sequence[ComparedMethod]
    keep_bone: bool = True
    _loaded: dict[tuple[Path, float | None, bool], Network] = field(default_factory=dict)

    def at(self, noise: Noise) -> dict[str, Network]:
        """The networks by label, for a kind of noise and its dose."""
        return {
            e.label: self._network(e.model, noise, poses=e.poses) for e in self.methods if e.model
        }

    def _network(self, model: Model, noise: Noise, *, poses: bool) -> Network:
        photons = photons_told(model.recipe.network, noise)
        key = (model.path, photons, poses)
        if key not in self._loaded:
            keeps_bone = self.keep_bone
            self._loaded[key] = Network(model, photons, keeps_bone=keeps_bone, poses=poses)
        return self._loaded[key]
