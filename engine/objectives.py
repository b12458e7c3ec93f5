"""Objectives: how noisy image, clean image and network become the number that is minimised.

`Supervised` compares the estimate with the clean image. `NeighbourSlices` needs no clean image. An
experiment may bring its own: a frozen dataclass that inherits from `Objective` and has `values`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.losses import Function
from engine.networks import Network
from volumes.sampling.priors import NeighbourMean
from volumes.sampling.slice_agreement import AGREE_HU, agreeing
from volumes.sampling.slice_correlation import slice_correlation
from volumes.volume import HU, Shape, SpacingMm

_SHARED = 0.25  # correlation: a quarter of the noise, at most a sixteenth of its power


class Images(NamedTuple):
    """The images of B examples on the device, float32 in window units.

    Attributes:
        clean: (B, Z, Y, X, 1). For scans as they are, it is the noisy image, clipped to the window.
        noisy: (B, Z, Y, X, 1).
        prior: (B, Z, Y, X, 1), the second image of the network; None if it sees none.
        dose: (B, 1, 1, 1, 1) that the network is told; None if it is told none.
        around: (B, Z + 2 halo, Y, X, 1), the noisy image with the slices above and below. Each
            slice has its own noise.
        slices: (B, Z + 2 halo) int32, the index of each slice of `around` in its volume, in which
            slices beyond the ends are reflected.
        keys: (B, 2) int32, seeds for random numbers of the objective, see `random_draws.normal`:
            independent of the noise.
        width_hu: of the window: one window unit in HU.
    """

    clean: Any
    noisy: Any
    prior: Any
    dose: Any
    around: Any
    slices: Any
    keys: Any
    width_hu: float

    @property
    def inputs(self) -> Any:
        """The input of the Keras model: noisy, [noisy, dose] or [noisy, prior]."""
        second = self.dose if self.prior is None else self.prior
        return self.noisy if second is None else [self.noisy, second]

    def shifted(self, slices: int) -> tuple[Any, Any]:
        """The noisy image some slices further on, and where there is one.

        Args:
            slices: how far; negative for the other side.

        Returns:
            (B, Z, Y, X, 1), and (B, Z, 1, 1, 1) float32: 1 where the slice has that distance, 0
            where the volume ends.
        """
        import tensorflow as tf

        length = self.noisy.shape[1]
        halo = (self.around.shape[1] - length) // 2
        here = self.slices[:, halo : halo + length]
        there = self.slices[:, halo + slices : halo + slices + length]
        found = tf.cast(tf.abs(there - here) == abs(slices), tf.float32)
        image = self.around[:, halo + slices : halo + slices + length]
        return image, found[..., None, None, None]


class Objective(ABC):
    """What is minimised, as a part of a recipe. Subclasses are frozen dataclasses.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Consistent(Supervised):
        ...     '''Supervised, and the same for the image turned by half a turn.'''
        ...     weight: float = 0.1
        ...
        ...     def values(self, network, images, loss):
        ...         import tensorflow as tf
        ...         turned = images._replace(noisy=tf.reverse(images.noisy, axis=[2, 3]))
        ...         there = tf.reverse(network(turned), axis=[2, 3])
        ...         estimate = network(images)
        ...         return loss(images.clean, estimate) + self.weight * loss(there, estimate)
    """

    @property
    def halo(self) -> int:
        """Slices above and below the crop that `Images.around` must contain."""
        return 0

    @property
    def needs_clean(self) -> bool:
        """Whether it uses the clean image. If not, it can learn from scans as they are."""
        return True

    @abstractmethod
    def values(self, network: Callable[[Images], Any], images: Images, loss: Function) -> Any:
        """The number that is minimised, one per example: (B,) float32.

        It runs in the compiled step, once per replica and part of a batch. Examples must not depend
        on each other. Random numbers come from `images.keys`.

        Args:
            network: gives the estimate for images, (B, Z, Y, X, 1) float32. It may be called
                several times, also with replaced `noisy`.
            images: of the examples.
            loss: the loss of the recipe: (target, estimate) -> (B,).
        """

    def refuse_network(  # noqa: B027
        self, network: Network, prior: NeighbourMean | None
    ) -> None:
        """Refuses a network or a prior that the objective cannot train.

        Raises:
            ValueError: with the reason.
        """

    def refuse_scan(self, shape: Shape, spacing_mm: SpacingMm) -> None:  # noqa: B027
        """Refuses a case by its header.

        Args:
            shape: (Z, Y, X).
            spacing_mm: along (Z, Y, X).

        Raises:
            ValueError: with the reason.
        """

    def doubt(self, recordings: Mapping[str, HU]) -> str:
        """A warning about scans with noise of their own, in words; empty if there is none.

        Args:
            recordings: (Z, Y, X) noisy scans by case.
        """
        return ""


@dataclass(frozen=True)
class Supervised(Objective):
    """The loss between the clean image and the estimate.

    Example:
        >>> Supervised().needs_clean
        True
    """

    def values(self, network: Callable[[Images], Any], images: Images, loss: Function) -> Any:
        """See `Objective.values`."""
        return loss(images.clean, network(images))


@dataclass(frozen=True)
class NeighbourSlices(Objective):
    """The loss between the estimate of a slice and its noisy neighbours: no clean image is needed.

    The network cannot predict the noise of a slice that it does not see. What remains to be learned
    is what neighbouring slices have in common: the anatomy (Noise2Sim: Niu et al., IEEE Trans. Med.
    Imaging 2022; Noise2Noise: Lehtinen et al., ICML 2018). All neighbours of a slice are targets,
    which gives the gradient less noise than one of them.

    Voxels are left out where the anatomy of the two slices differs: where the means of 7 x 7 pixels
    differ by more than `agree_hu` and by more than noise explains, see `slice_agreement`.

    The noise of a slice and that of its target must be independent: the network keeps what they
    share. Neighbouring slices of most scanners share noise, those two apart hardly do. `fit`
    measures it.

    Attributes:
        nearest, farthest: distance of the targets, in slices on either side.
        agree_hu: see above.
        limit_mm: largest distance of a target. Further away, too much anatomy changes.

    Example:
        >>> NeighbourSlices(nearest=1, farthest=2).halo
        2
    """

    nearest: int = 1
    farthest: int = 1
    agree_hu: float = AGREE_HU
    limit_mm: float = 3.0

    def __post_init__(self) -> None:
        if not 1 <= self.nearest <= self.farthest:
            raise ValueError(
                "objective.nearest must be at least 1 and at most objective.farthest, not "
                f"{self.nearest} and {self.farthest}"
            )
        if not (self.agree_hu >= 0 and self.limit_mm > 0):
            raise ValueError(
                "objective.agree_hu must not be negative and objective.limit_mm must be positive, "
                f"not {self.agree_hu} and {self.limit_mm}"
            )

    @property
    def halo(self) -> int:
        """See `Objective.halo`."""
        return self.farthest

    @property
    def needs_clean(self) -> bool:
        """See `Objective.needs_clean`."""
        return False

    def values(self, network: Callable[[Images], Any], images: Images, loss: Function) -> Any:
        """The mean loss over the neighbours of each example; see `Objective.values`."""
        import tensorflow as tf

        estimate = network(images)
        distances = range(self.nearest, self.farthest + 1)
        losses, counts = [], []
        for distance in (*(-d for d in distances), *distances):
            target, found = images.shifted(distance)
            kept = found * agreeing(images.noisy - target, self.agree_hu / images.width_hu)
            # Where nothing is kept, the estimate is its own target: no loss has a gradient there.
            losses.append(loss(kept * target + (1.0 - kept) * estimate, estimate))
            counts.append(tf.reduce_mean(found, axis=[1, 2, 3, 4]))
        return tf.math.divide_no_nan(tf.add_n(losses), tf.add_n(counts))

    def refuse_network(self, network: Network, prior: NeighbourMean | None) -> None:
        """Refuses what sees the neighbours of a slice; see `Objective.refuse_network`."""
        if network.radius[0] > 0:
            raise ValueError(
                f"NeighbourSlices needs a 2D network: {type(network).__name__} sees the "
                "neighbouring slices, and would learn to copy their noise"
            )
        if prior is not None and (prior.halo > 0 or prior.of.is_oracle):
            raise ValueError(
                "NeighbourSlices needs a prior of the slice itself, such as prior=tv: this one "
                "shows the network the image that it is to predict"
            )

    def refuse_scan(self, shape: Shape, spacing_mm: SpacingMm) -> None:
        """Refuses thick slices and scans with too few; see `Objective.refuse_scan`."""
        distance_mm = self.farthest * spacing_mm[0]
        if distance_mm > self.limit_mm:
            raise ValueError(
                f"has targets {distance_mm:g} mm away, and slices more than {self.limit_mm:g} mm "
                "apart show too much other anatomy"
            )
        if shape[0] < 2 * self.nearest:
            raise ValueError(f"has {shape[0]} slices, fewer than the {2 * self.nearest} needed")

    def doubt(self, recordings: Mapping[str, HU]) -> str:
        """Warns of targets that share noise with the input; see `Objective.doubt`."""
        found = {case: slice_correlation(hu, self.nearest) for case, hu in recordings.items()}
        shared = {case: value for case, value in found.items() if value > _SHARED}
        if not shared:
            return ""
        worst = max(shared, key=lambda case: shared[case])
        return (
            f"the noise of slices {self.nearest} apart correlates in {len(shared)} of "
            f"{len(recordings)} scans (by {shared[worst]:.2f} in {worst}), and the network keeps "
            f"what they share: objective.nearest={self.nearest + 1} shares less"
        )


def parse_objective(text: str) -> Objective:
    """The objective with a name, as given on the command line.

    Raises:
        ValueError: if there is no such objective.

    Example:
        >>> parse_objective("supervised")
        Supervised()
    """
    known: dict[str, type[Objective]] = {
        "supervised": Supervised,
        "neighbour_slices": NeighbourSlices,
    }
    if text not in known:
        raise ValueError(f"takes one of {', '.join(known)}, not {text!r}")
    return known[text]()
