"""The comparison: every method on the same cases with the same noise, scored alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.classical import METHODS, Known, tuned
from engine.estimate import blocks_of, plan, prior_blocks
from engine.metrics import scores, window_psnr
from engine.model import Model, open_model
from engine.refusals import BadUsage, Mismatch
from engine.residual import autocorrelation, edge_correlation
from engine.run import Run
from volumes import Gaussian, NeighbourMean, Window
from volumes.crops import Box, read
from volumes.volume import SpacingMm, Unit, Volume

_SEED = 0  # of the noise: that of validation during training, so that its scores come back
_TUNING = (8, 256, 256)  # block of each validation case by which classical methods are tuned
_REFERENCE = (32, 256, 256)

Tick = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """How one method did on one case at one level of noise.

    Attributes:
        method: its name.
        case: name of the case.
        sigma: of the noise, as a fraction of the window.
        scores: by name.
    """

    method: str
    case: str
    sigma: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Picture:
    """The middle slice of the first case in HU, by method, for the figure."""

    case: str
    sigma: float
    slices: dict[str, Unit]


@dataclass(frozen=True)
class Contest:
    """What is compared and on what.

    Attributes:
        methods: run folders and names of classical methods.
        cases: volumes that are scored.
        tuning: volumes by which classical methods choose their parameters.
        sigmas: levels of Gaussian noise, fractions of the window.
        window: of every score.
        prior: that SPADE and the row "prior" use.
        protocol: "volumes", or "reference": the first slice of a central crop.
        slices: scored slices of each case, about its middle; None takes all.
        noise_seed: of the noise, with the case and the slice.
    """

    methods: Sequence[str]
    cases: Sequence[Volume]
    tuning: Sequence[Volume]
    sigmas: Sequence[float]
    window: Window
    prior: NeighbourMean
    protocol: str = "volumes"
    slices: int | None = None
    noise_seed: int = _SEED


class Network:
    """A trained model as a method; it makes the prior that it was trained with."""

    def __init__(self, name: str, model: Model) -> None:
        self.name, self.model = name, model
        self._estimator = model.estimator()

    def __repr__(self) -> str:
        """What the table prints as the method's setting."""
        return f"{self.model.recipe.network} at step {self.model.step}"

    def estimate(
        self, noisy: Unit, sigma: float, spacing_mm: SpacingMm, prior: Unit | None
    ) -> Unit:
        """The network's estimate, (Z, Y, X) in window units."""
        recipe, blocks = self.model.recipe, blocks_of(noisy)
        own = None
        if recipe.prior is not None:
            own = prior_blocks(recipe.prior, blocks, noisy.shape[0], spacing_mm[0])
        z, y, x = noisy.shape
        whole: Unit = self._estimator.volume(plan((z, y, x), recipe.network), blocks, own)
        return whole


def open_models(methods: Sequence[str], which: str) -> dict[str, Model]:
    """The models among the methods, by the name that tables give them.

    Raises:
        BadUsage: where a method is neither a run folder nor a classical one.
        Mismatch: where two runs have one name, or a run cannot be used.
    """
    models: dict[str, Model] = {}
    for method in methods:
        if method in METHODS:
            continue
        if not Path(method).is_dir():
            remedy = f"Name a run folder, or one of {', '.join(METHODS)}"
            raise BadUsage(method, "is no method", remedy)
        name = Path(method).resolve().name
        if name in METHODS or name == "clean":
            cause = f"is a run named {name}, which means something else in the tables"
            raise Mismatch(Path(method), cause, "Rename it")
        if name in models:
            raise Mismatch(Path(method), f"is a second run named {name}", "Rename one of them")
        models[name] = open_model(Run(Path(method)), which)
    windows = {model.recipe.window.low_hu for model in models.values()} | {
        model.recipe.window.high_hu for model in models.values()
    }
    if len(windows) > 2:
        cause = "networks of different windows have no common score"
        raise Mismatch(Path(methods[0]), cause, "Compare runs of one window")
    return models


def compare(
    contest: Contest, models: dict[str, Model], tick: Tick
) -> tuple[list[Row], dict[str, dict[str, str]], list[Picture]]:
    """Scores every method on every case at every level.

    Returns:
        The rows; the settings of each method by level; a picture of each level.
    """
    networks = {name: Network(name, model) for name, model in models.items()}
    rows: list[Row] = []
    settings: dict[str, dict[str, str]] = {}
    pictures: list[Picture] = []
    for sigma in contest.sigmas:
        chosen = dict(_methods(contest, networks, sigma, tick))
        settings[f"{sigma:g}"] = {name: repr(method) for name, method in chosen.items()}
        for volume in contest.cases:
            clean, noisy, spacing_mm, prior = _known(contest, volume, sigma)
            middle = clean.shape[0] // 2
            shown = {"clean": clean[middle], "noisy": noisy[middle]}
            for name, method in chosen.items():
                tick(f"{name}, {volume.case}, {100 * sigma:g}%")
                estimate = method.estimate(noisy, sigma, spacing_mm, prior)
                shown[name] = estimate[middle]
                scored = _scored(contest, clean, noisy, estimate)
                rows.append(Row(name, volume.case, sigma, scored))
            if volume is contest.cases[0]:
                in_hu = {name: contest.window.hu(slice_) for name, slice_ in shown.items()}
                pictures.append(Picture(volume.case, sigma, in_hu))
    return rows, settings, pictures


def _methods(
    contest: Contest, networks: dict[str, Network], sigma: float, tick: Tick
) -> Iterator[tuple[str, Any]]:
    known: list[Known] = []
    for method in contest.methods:
        if method in METHODS:
            tick(f"tuning {method}, {100 * sigma:g}%")
            choice = METHODS[method]()
            if len(choice.candidates()) > 1 and not known:
                known = [_block(_known(contest, volume, sigma)) for volume in contest.tuning]
            yield method, tuned(choice, known, sigma)
        else:
            name = Path(method).resolve().name
            yield name, networks[name]


def _known(contest: Contest, volume: Volume, sigma: float) -> Known:
    """The clean and the noisy image of a case, its spacing and its prior."""
    clean = np.clip(contest.window.unit(volume.hu), 0, 1)
    noisy = Gaussian(sigma).degrade(clean, sigma, contest.noise_seed, volume.case)
    if contest.protocol == "reference":
        box = _central(clean.shape, _REFERENCE)
        clean, noisy = read(clean, box), read(noisy, box)
    blocks = prior_blocks(contest.prior, blocks_of(noisy), clean.shape[0], volume.spacing_mm[0])
    z, y, x = clean.shape
    return clean, noisy, volume.spacing_mm, blocks(Box((0, 0, 0), (z, y, x)))


def _block(known: Known) -> Known:
    clean, noisy, spacing_mm, prior = known
    box = _central(clean.shape, _TUNING)
    # Copies: a view would keep the whole volume.
    one, other = read(clean, box).copy(), read(noisy, box).copy()
    return one, other, spacing_mm, None if prior is None else read(prior, box).copy()


def _central(shape: tuple[int, ...], wanted: tuple[int, int, int]) -> Box:
    z, y, x = (min(n, w) for n, w in zip(shape, wanted, strict=True))
    start = [(n - w) // 2 for n, w in zip(shape, (z, y, x), strict=True)]
    return Box((start[0], start[1], start[2]), (z, y, x))


def _scored(contest: Contest, clean: Unit, noisy: Unit, estimate: Unit) -> dict[str, float]:
    if contest.protocol == "reference":
        clean, noisy, estimate = clean[:1], noisy[:1], estimate[:1]
    elif contest.slices:
        # Estimated in the whole volume: a method must not lack the neighbours of what is scored.
        first = max((clean.shape[0] - contest.slices) // 2, 0)
        part = slice(first, first + contest.slices)
        clean, noisy, estimate = clean[part], noisy[part], estimate[part]
    residual = noisy - estimate
    return {
        **asdict(scores(clean, estimate, contest.window)),
        "bias_hu": contest.window.width_hu * float(np.mean(estimate - clean, dtype=np.float64)),
        **window_psnr(clean, estimate, contest.window),
        "residual_autocorrelation": autocorrelation(residual),
        "residual_at_edges": edge_correlation(residual, clean),
    }
