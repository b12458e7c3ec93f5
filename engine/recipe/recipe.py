"""The recipe: everything that defines an experiment, validated and frozen.

A recipe file is a Python program that defines one object named `recipe`. To load it is to run its
code. The resolved recipe is plain data, saved as JSON, and enough to rebuild the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np

from engine.losses import Function
from engine.networks import Network
from engine.objectives import Objective, Supervised
from engine.recipe.declared import lacking
from engine.recipe.metric import SCORES, Metric
from engine.schedules import Schedule
from volumes import AsScanned, Crop, NeighbourMean, Split, Window
from volumes.sampling.noise import Noise
from volumes.volume import Unit

_LINEAR_CEILING = 10.0  # of the input of a network, in window units


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment.

    Attributes:
        split: which cases train, validate and test.
        window: HU <-> the network's units.
        crop: of the training examples.
        noise: added to the clean crops, recorded beside them, or that of a simulated scanner.
        prior: second input image of a network that sees one, else None.
        network: what is trained.
        loss: (clean, estimate) -> one number per example, such as `0.8 * losses.l1 + 0.2 *
            losses.ssim`.
        objective: how images, network and loss become what is minimised.
        learning_rate: of Adam, as a function of the step.
        weight_decay: of the kernels, decoupled from the gradient: each step takes learning_rate *
            weight_decay of them (AdamW: Loshchilov and Hutter, ICLR 2019). 0: none.
        batch: examples that are in memory at once, over all replicas.
        accumulate: batches per step. Their gradients are summed before the update: the loss curve
            is that of a batch so many times larger, the memory that of one. Batch normalisation
            sees each batch alone.
        steps: number of steps of the whole training.
        average: decay per step of an exponential moving average of the weights, such as 0.998. The
            average is then validated and applied. 0: no average.
        clip_norm: largest norm of the gradient. 0: no clipping.
        validate_every, checkpoint_every: in steps.
        patience: the training ends after so many validations in a row without a better score.
            0: never.
        validate_at: noise levels of the validation, such as (0.02, 0.05, 0.10) of the window.
            "best" is then that of the mean over them. Empty: only the typical level.
        best_by: score that decides which checkpoint is the best one: psnr, ssim, rmse or a `Metric`
            of your own, the mean over the levels. Every score is recorded.
        validate_slices: number of central slices of each validation case that are scored during
            training.
        seed: of weights, crops and noise.

    Example:
        >>> from engine import losses, schedules
        >>> from engine.networks import UNet2D
        >>> from volumes import Crop, Gaussian, Split, Window
        >>> recipe = Recipe(
        ...     split=Split(validation=4, test=2),
        ...     window=Window(low_hu=-1000, high_hu=400),
        ...     crop=Crop(shape=(1, 256, 256)),
        ...     noise=Gaussian(sigma=0.10),
        ...     network=UNet2D(width=32, levels=3),
        ...     loss=losses.mean_squared_error,
        ...     learning_rate=schedules.constant(1e-4),
        ...     batch=64,
        ...     steps=100_000,
        ... )
        >>> recipe.seed
        0
    """

    split: Split
    window: Window
    crop: Crop
    noise: Noise
    prior: NeighbourMean | None = None
    network: Network
    loss: Function
    objective: Objective = Supervised()  # noqa: RUF009
    learning_rate: Schedule
    weight_decay: float = 0.0
    batch: int
    accumulate: int = 1
    steps: int
    average: float = 0.0
    clip_norm: float = 0.0
    validate_every: int = 1000
    validate_at: tuple[float, ...] = ()
    best_by: Metric | str = "psnr"
    validate_slices: int = 32
    checkpoint_every: int = 1000
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for field, protocol in (("network", Network), ("learning_rate", Schedule)):
            part = getattr(self, field)
            if isinstance(part, type):
                raise ValueError(f"{field} is the class {part.__name__}: write {part.__name__}()")
            if lacks := lacking(part, protocol):
                raise ValueError(f"{field}: {type(part).__name__} has no {', '.join(lacks)}")
        if not isinstance(self.noise, get_args(Noise)):
            kinds = ", ".join(kind.__name__ for kind in get_args(Noise))
            raise ValueError(f"noise: {type(self.noise).__name__} inherits from none of {kinds}")
        for field in (
            "batch", "accumulate", "steps", "validate_every", "validate_slices", "checkpoint_every",
        ):  # fmt: skip
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
        if not isinstance(self.best_by, Metric) and self.best_by not in SCORES:
            known = ", ".join(SCORES)
            raise ValueError(f"best_by must be {known} or a Metric, not {self.best_by!r}")
        for field in ("clip_norm", "weight_decay", "patience"):
            if not 0 <= getattr(self, field) < math.inf:
                cause = f"must be finite and not negative, not {getattr(self, field)}"
                raise ValueError(f"{field} {cause}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must lie in [0, 1), not {self.average}")
        labels = [label for level in self.validate_at for label in self.noise.at(level)]
        if len(set(labels)) < len(labels):
            raise ValueError(f"validate_at names a level twice: {', '.join(labels)}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, not {self.seed}")
        if self.network.sees_prior and self.prior is None:
            raise ValueError(f"{type(self.network).__name__} sees a prior: give the recipe one")
        if self.prior is not None and not self.network.sees_prior:
            raise ValueError(f"{type(self.network).__name__} sees no prior: set prior=None")
        self.objective.refuse_network(self.network, self.prior)
        if self.objective.needs_clean and isinstance(self.noise, AsScanned):
            raise ValueError(
                f"{type(self.objective).__name__} needs a clean image, which scans as they are do "
                "not have: add noise, or set objective=neighbour_slices"
            )
        if self.network.sees_dose and self.noise.typical_photons is None:
            raise ValueError(
                "network.sees_dose must be false where the noise has no dose; low-dose noise has "
                "one"
            )
        additive = self.noise.additive
        if not additive and self.prior and self.prior.of.needs_sigma:
            raise ValueError("SliceTV needs additive noise, whose level is known")
        if not additive and self.crop.scales != (1.0,):
            raise ValueError(
                "crop.scales must be 1.0 where noise is recorded or scanned, which resampling "
                f"would change, not {self.crop.scales}"
            )
        for length, stride in zip(self.crop.shape, self.network.stride, strict=True):
            if length % stride:
                raise ValueError(
                    f"crop.shape {self.crop.shape} must be a multiple of the network's stride "
                    f"{self.network.stride}"
                )

    @property
    def input_bounds(self) -> tuple[float, float]:
        """The bounds to which a network's input is clipped, in window units.

        In clipped training a network never sees values above the window's end and its noise. Voxels
        that no scanner measured must not spoil their neighbours, even with a linear network.
        """
        floor, ceiling = self.noise.bounds
        return floor, ceiling if self.window.clip else _LINEAR_CEILING

    def seen(self, image: Unit) -> Unit:
        """A noisy image in window units as the network is given it: within `input_bounds`."""
        low, high = self.input_bounds
        return np.clip(image, np.float32(low), np.float32(high))

    @property
    def examples_per_step(self) -> int:
        """Examples per step, over all replicas and accumulated batches."""
        return self.batch * self.accumulate
