"""Sources of a prior: the images whose slices a prior averages.

The prior of Abascal et al. (EUSIPCO 2020) averages the noisy slices (`Noisy`). Its authors find it
too noisy or too blurred at 10 % noise and suggest a denoised image. The other sources:

- `SliceTV`: total variation, which needs no training.
- `Clean`: an oracle, an upper bound for any prior. It is not available on real noise.
- `Turned`: a control with the statistics of a prior but the wrong anatomy.

Each source works within slices, on crops during training and on whole slices afterwards.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from volumes.total_variation import minimiser


class Source(Hashable, Protocol):
    """A method that makes an image from the noisy one, slice by slice: a frozen dataclass.

    A class of your own may inherit from this one, and then needs only `image`.

    Attributes:
        is_noisy: whether the image is the noisy one itself.
        is_oracle: whether it is made from the clean image, which no real scan has.
        needs_sigma: whether the standard deviation of the noise must be known.
        network_run: folder of the run whose network makes it; None if no network does.
    """

    @property
    def is_noisy(self) -> bool:  # noqa: D102
        return False

    @property
    def is_oracle(self) -> bool:  # noqa: D102
        return False

    @property
    def needs_sigma(self) -> bool:  # noqa: D102
        return False

    @property
    def network_run(self) -> str | None:  # noqa: D102
        return None

    @abstractmethod
    def image(self, clean: Any | None, noisy: Any, sigma: Any) -> Any:
        """The image whose slices are averaged.

        Args:
            clean: (B, Z, Y, X, 1) float32 tensor in window units; None if unknown.
            noisy: of the same shape and unit.
            sigma: (B,) float32, standard deviation of the noise in window units.

        Returns:
            (B, Z, Y, X, 1) float32.
        """


@dataclass(frozen=True)
class Noisy:
    """The noisy slices themselves.

    Example:
        >>> from volumes import NeighbourMean
        >>> NeighbourMean(radius=0, of=Noisy())  # the noisy slice itself is the prior
        NeighbourMean(radius=0, decay=0.04, decay_per_mm=0.0, of=Noisy())
    """

    is_noisy: ClassVar[bool] = True
    is_oracle: ClassVar[bool] = False
    needs_sigma: ClassVar[bool] = False
    network_run: ClassVar[None] = None

    def image(self, clean: Any | None, noisy: Any, sigma: Any) -> Any:
        """The noisy image."""
        return noisy


@dataclass(frozen=True)
class SliceTV:
    """Total variation of each slice (Rudin, Osher and Fatemi, Physica D 60, 1992).

    Attributes:
        weight: of the gradient, as a multiple of the noise's standard deviation.
        iterations: of the solver.

    Example:
        >>> from volumes import NeighbourMean
        >>> NeighbourMean(radius=0, of=SliceTV()).of == SliceTV()
        True
    """

    weight: float = 0.8
    iterations: int = 40

    is_noisy: ClassVar[bool] = False
    is_oracle: ClassVar[bool] = False
    needs_sigma: ClassVar[bool] = True
    network_run: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.weight <= 0 or self.iterations < 1:
            raise ValueError(
                f"a SliceTV needs a positive weight and iterations, not {self.weight} and "
                f"{self.iterations}"
            )

    def image(self, clean: Any | None, noisy: Any, sigma: Any) -> Any:
        """Each slice with reduced total variation."""
        import tensorflow as tf

        weight = self.weight * tf.reshape(tf.cast(sigma, tf.float32), (-1, 1, 1, 1, 1))
        return minimiser(noisy, ((weight, None),), 0.0, self.iterations)


@dataclass(frozen=True)
class Clean:
    """The clean slices: an oracle, for experiments on simulated noise.

    Example:
        >>> from volumes import NeighbourMean
        >>> NeighbourMean(of=Clean()).radius
        4
    """

    is_noisy: ClassVar[bool] = False
    is_oracle: ClassVar[bool] = True
    needs_sigma: ClassVar[bool] = False
    network_run: ClassVar[None] = None

    def image(self, clean: Any | None, noisy: Any, sigma: Any) -> Any:
        """The clean image.

        Raises:
            ValueError: if it is unknown.
        """
        if clean is None:
            raise ValueError("the oracle prior needs the clean image, which is unknown here")
        return clean


@dataclass(frozen=True)
class Turned:
    """The noisy slices turned by half a turn: a control, right statistics but wrong anatomy.

    Example:
        >>> from volumes import NeighbourMean
        >>> NeighbourMean(of=Turned()).radius
        4
    """

    is_noisy: ClassVar[bool] = False
    is_oracle: ClassVar[bool] = False
    needs_sigma: ClassVar[bool] = False
    network_run: ClassVar[None] = None

    def image(self, clean: Any | None, noisy: Any, sigma: Any) -> Any:
        """The noisy image with rows and columns reversed."""
        import tensorflow as tf

        return tf.reverse(noisy, axis=[2, 3])
