"""The predictor: a network with its prior, applied to a whole volume tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.inference.tiling import Blocks, Plan
from engine.networks import Network
from engine.runs.trained_model import Model
from volumes import random_draws
from volumes.boxes import Box
from volumes.sampling.noise import Noise
from volumes.tiles import padded
from volumes.tomography.photon_noise import log_dose
from volumes.volume import Unit


def photons_told(network: Network, noise: Noise) -> float | None:
    """Photons per ray of a typical scan of the noise, for a dose-aware network; else None."""
    return noise.typical_photons if network.sees_dose else None


class Predictor:
    """Applies one network to volumes. Its graph is traced once.

    Args:
        model: the Keras model.
        photons: per ray of the scans, for a dose-aware network.
    """

    def __init__(self, model: Any, photons: float | None = None) -> None:
        import tensorflow as tf

        self._model = model
        self._beyond: float | None = None
        self._dose = [] if photons is None else [np.full((1, 1, 1), log_dose(photons))]
        self._infer = tf.function(
            lambda images: model(images, training=False), reduce_retracing=True
        )

    @classmethod
    def of(cls, model: Model, photons: float | None = None) -> Predictor:
        """The predictor of a trained model.

        Raises:
            Mismatch: if the checkpoint does not have the variables of the network.
        """
        return cls(model.network(), photons)

    def beyond_halo(self, network: Network) -> float:
        """How much an estimate depends on voxels beyond a tile's halo, in window units.

        For a network of convolutions this is 0. A network with statistics over the whole image, or
        with a receptive field larger than its `radius`, would leave seams. Measured once.

        Args:
            network: gives the stride and the radius of the tiles.
        """
        if self._beyond is None:
            self._beyond = self._probed(network)
        return self._beyond

    def _probed(self, network: Network) -> float:
        stride = network.stride
        halo = padded(network.radius, stride)
        z, y, x = (2 * (h + s) + s for h, s in zip(halo, stride, strict=True))
        outside = np.ones((z, y, x), bool)
        outside[tuple(slice(s, n - s) for s, n in zip(stride, (z, y, x), strict=True))] = False
        inside = tuple(slice(h + s, h + 2 * s) for h, s in zip(halo, stride, strict=True))
        found = []
        for shift in (0.0, 3.0):
            images = []
            for name in ("noisy", "prior")[: 1 + network.sees_prior]:
                image = random_draws.rng(0, "probe", name).random((z, y, x), np.float32)
                image[outside] += np.float32(shift)
                images.append(tensor(image))
            images += [tensor(image) for image in self._dose]
            estimate = self._model(images if len(images) > 1 else images[0], training=False)
            found.append(np.asarray(estimate, np.float32)[0, ..., 0][inside])
        return float(np.abs(found[1] - found[0]).max())

    def tiles(self, plan: Plan, noisy: Blocks, prior: Blocks | None) -> Iterator[tuple[Box, Unit]]:
        """The kept box of each tile and its estimate in window units."""
        for tile in plan.tiles():
            second = self._dose if prior is None else [prior(tile.read)]
            images = [tensor(image) for image in (noisy(tile.read), *second)]
            estimate = self._infer(images if second else images[0]).numpy()[0, ..., 0]
            yield tile.keep, estimate[tile.inner]

    def volume(self, plan: Plan, noisy: Blocks, prior: Blocks | None) -> Unit:
        """The whole estimate, (Z, Y, X) in window units."""
        whole = np.empty(plan.shape, np.float32)
        for box, estimate in self.tiles(plan, noisy, prior):
            whole[box.slices] = estimate
        return whole


def tensor(array: npt.NDArray[Any]) -> Any:
    """(Z, Y, X) in window units -> (1, Z, Y, X, 1) float32 tensor."""
    import tensorflow as tf

    return tf.constant(array[None, ..., None], tf.float32)
