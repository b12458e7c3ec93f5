"""The predictor: a network with its prior, applied to a whole volume part by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.inference.poses import averaged, poses_of
from engine.inference.streamed_layers import UnknownLayerError
from engine.inference.streaming import Streaming
from engine.inference.tiling import Blocks, Plan
from engine.networks import Network
from engine.runs.trained_model import Model
from volumes import random_draws
from volumes.boxes import Box
from volumes.sampling.crops import Pose
from volumes.sampling.noise import Noise
from volumes.tiles import Tile, padded
from volumes.tomography.photon_noise import log_dose
from volumes.volume import Shape, Unit

_WORTH_COMPILING = 8  # repetitions of a shape within a scan from which on XLA compiles it


def photons_told(network: Network, noise: Noise) -> float | None:
    """Photons per ray of a typical scan of the noise, for a dose-aware network; else None."""
    return noise.typical_photons if network.sees_dose else None


class Predictor:
    """Applies one network to volumes. Its graph is traced once.

    Args:
        model: the Keras model.
        photons: per ray of the scans, for a dose-aware network.
        xla: whether XLA compiles the shape that is most frequent in a plan. All others are too rare
            to repay the seconds of a compilation.
        precision: of the model between input and output.
        exact: the predictor of the same weights in float32; None if it is this one.
        poses: of the slices, over which estimates are averaged. With several of them nothing is
            streamed.

    Attributes:
        precision, exact: as above.
    """

    def __init__(
        self, model: Any, photons: float | None = None, *, xla: bool = False,
        precision: str = "float32", exact: Predictor | None = None,
        poses: Sequence[Pose] = (Pose(),),
    ) -> None:  # fmt: skip
        import tensorflow as tf

        self.precision, self.exact = precision, exact or self
        self._model, self._xla, self._poses = model, xla, poses
        self._beyond: float | None = None
        self._dose: list[Blocks] = []
        if photons is not None:
            dose = np.full((1, 1, 1), log_dose(photons), np.float32)
            self._dose.append(lambda box: dose)
        # Shapes are left open: for a known shape TensorFlow would merge other operations, and round
        # otherwise.
        inputs = [tf.TensorSpec(image.shape, image.dtype) for image in model.inputs]

        def infer(images: list[Any]) -> Any:
            return model(images if len(inputs) > 1 else images[0], training=False)

        self._infer = tf.function(infer, input_signature=[inputs])
        self._compiled = tf.function(infer, input_signature=[inputs], jit_compile=True)

    @classmethod
    def of(
        cls, model: Model, photons: float | None = None, *, precision: str = "float32",
        xla: bool = False, poses: bool = False,
    ) -> Predictor:  # fmt: skip
        """The predictor of a trained model.

        Args:
            model: of a run.
            photons: per ray of the scans, for a dose-aware network.
            precision: of the layers between input and output.
            xla: whether XLA compiles the network.
            poses: whether estimates are averaged over the poses of slices that were trained on.

        Raises:
            Mismatch: if the checkpoint does not have the variables of the network.
        """
        seen = poses_of(model.recipe.crop) if poses else (Pose(),)
        exact = None if precision == "float32" else cls(model.network(), photons, poses=seen)
        network = model.network(precision)
        return cls(network, photons, xla=xla, precision=precision, exact=exact, poses=seen)

    def beyond_halo(self, network: Network) -> float:
        """How much an estimate depends on voxels beyond a tile's halo, in window units.

        For a network of convolutions this is 0. A network with statistics over the whole image, or
        with a receptive field larger than its `radius`, would leave seams. Measured once, in
        float32: in lower precision, rounding on a GPU could be taken for it.

        Args:
            network: gives the stride and the radius of the tiles.
        """
        if self._beyond is None:
            self._beyond = self.exact._probed(network)
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
            images += [tensor(image(Box((0, 0, 0), (1, 1, 1)))) for image in self._dose]
            found.append(self._infer(images).numpy()[0, ..., 0][inside])
        return float(np.abs(found[1] - found[0]).max())

    def tiles(self, plan: Plan, noisy: Blocks, prior: Blocks | None) -> Iterator[tuple[Box, Unit]]:
        """The kept box of each tile and its estimate in window units.

        If the plan is a stream but the network has a layer that cannot be streamed, the volume is
        cut into separate tiles.
        """
        images = [noisy, *(self._dose if prior is None else [prior])]
        frequent = self._frequent(plan)
        if streaming := self._streaming_of(plan):
            for column in plan.columns():
                xla = column.read.shape == frequent
                yield from self._streamed(plan, column, streaming, images, xla=xla)
            return
        for tile in self.planned(plan).tiles():
            infer = self._compiled if tile.read.shape == frequent else self._infer
            estimate = averaged(
                self._poses, partial(_applied, infer), [image(tile.read) for image in images]
            )
            yield tile.keep, estimate[tile.inner]

    def planned(self, plan: Plan) -> Plan:
        """The plan by which a volume is cut: without a stream where there can be none."""
        return plan if not plan.streamed or self._streaming_of(plan) else plan.separate()

    def compiles(self, plan: Plan) -> bool:
        """Whether XLA computes a part of a volume that is cut in this way."""
        return self._frequent(plan) is not None

    def _frequent(self, plan: Plan) -> Shape | None:
        """The shape that XLA compiles: that of most tiles or columns. It depends on the plan alone.

        None if it is repeated too rarely.
        """
        if not self._xla:
            return None
        if self._streaming_of(plan):
            tiles, repeated = plan.columns(), plan.depth // plan.step
        else:
            tiles, repeated = self.planned(plan).tiles(), 1
        (shape, count), *_ = Counter(tile.read.shape for tile in tiles).most_common(1)
        return shape if count * repeated >= _WORTH_COMPILING else None

    def _streaming_of(self, plan: Plan) -> Streaming | None:
        """The stream of a plan; None if the volume is cut into separate tiles."""
        streaming = self._streaming if plan.streamed and len(self._poses) == 1 else None
        return streaming if streaming and streaming.takes(plan.depth) else None

    def _streamed(
        self, plan: Plan, column: Tile, streaming: Streaming, images: list[Blocks], *, xla: bool
    ) -> Iterator[tuple[Box, Unit]]:
        def slices(image: Blocks, first: int, after: int) -> Any:
            start, shape = column.read.start[1:], column.read.shape[1:]
            return tensor(image(Box((first, *start), (after - first, *shape))))

        estimates = streaming.estimate(
            [partial(slices, image) for image in images],
            plan.depth,
            plan.step,
            plan.tile[0],
            xla=xla,
        )
        for tile, estimate in zip(plan.slabs(column), estimates, strict=False):
            depth = tile.keep.shape[0]  # what follows is padding
            yield tile.keep, estimate.numpy()[0, :depth, ..., 0][tile.inner]

    @cached_property
    def _streaming(self) -> Streaming | None:
        try:
            return Streaming(self._model, xla=self._xla)
        except UnknownLayerError:
            return None

    def volume(self, plan: Plan, noisy: Blocks, prior: Blocks | None) -> Unit:
        """The whole estimate, (Z, Y, X) in window units."""
        whole = np.empty(plan.shape, np.float32)
        for box, estimate in self.tiles(plan, noisy, prior):
            whole[box.slices] = estimate
        return whole


def _applied(infer: Any, images: list[Unit]) -> Unit:
    """The estimate of (Z, Y, X) images, in window units."""
    estimate: Unit = infer([tensor(image) for image in images]).numpy()[0, ..., 0]
    return estimate


def tensor(array: npt.NDArray[Any]) -> Any:
    """(Z, Y, X) in window units -> (1, Z, Y, X, 1) float32 tensor."""
    import tensorflow as tf

    return tf.constant(array[None, ..., None], tf.float32)
