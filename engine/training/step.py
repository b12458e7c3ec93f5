"""The training step: the whole method, from HU to updated weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from engine.objectives import Images
from engine.recipe.recipe import Recipe
from engine.runtime import Runtime
from engine.training.average import Average
from engine.training.optimizer import Adam
from volumes.sampling.prior_sources import Source
from volumes.sampling.priors import weighted_slices

_OTHER_KEY = 0x2545F491  # the random numbers of the objective are not those of the noise


class Batch(NamedTuple):
    """The tensors of B examples; see `volumes.sampling.examples.Example`."""

    hu: Any  # (B, Z + 2 halo, Y, X) int16, or float32 if not whole numbers; X is not mirrored yet
    noisy_hu: Any  # likewise; (B, 0, Y, X) if the step adds the noise
    mirrored: Any  # (B,) bool, along X
    weights: Any  # (B, Z, Z + 2 halo) float32; (B, Z, 0) without a prior
    sigma: Any  # (B,) float32
    spectrum: Any  # (B, S) float32; (B, 0) for white noise
    dose: Any  # (B,) float32
    keys: Any  # (B, 2) int32
    slices: Any  # (B, Z + 2 halo) int32


class Learned(NamedTuple):
    """The results of a step. The device may still be computing them."""

    loss: Any
    finite: Any  # whether loss and gradients were finite; if not, no update
    norm: Any  # of the gradient, before clipping


class TrainingStep:
    """One step: noise, prior, network, objective, gradient, sum over replicas, update.

    The parts of a batch are computed one after the other, in the memory of one. This local
    computation may be compiled by XLA. The sum over replicas and the update are not, so that the
    variables of a replica stay on its device.
    """

    def __init__(
        self, recipe: Recipe, runtime: Runtime, model: Any, source: Source | None, adam: Adam,
        average: Average | None,
    ) -> None:  # fmt: skip
        self.model, self.adam, self.average, self.source = model, adam, average, source
        self.window, self.noise, self.strategy = recipe.window, recipe.noise, runtime.strategy
        self.objective, self.loss = recipe.objective, recipe.loss
        self.parts, self.examples = recipe.accumulate, recipe.examples_per_step
        self.sees_dose = "dose" in [given.name for given in model.inputs]
        self.moving = [variable.value for variable in model.non_trainable_variables]
        # Batch statistics are summed over replicas, which code compiled by XLA cannot do.
        xla = runtime.xla and not (runtime.replicas > 1 and self.moving)
        self.local = tf.function(self._local, jit_compile=True) if xla else self._local
        self.run = tf.function(self._run)

    def __call__(self, batch: Batch, learning_rate: Any) -> Learned:
        """Updates the weights with one global batch, given per replica."""
        return Learned(*self.run(batch, learning_rate))

    def trace(self, batch: Batch, learning_rate: Any) -> None:
        """Makes the graph for batches of this shape. No variable changes."""
        self.run.get_concrete_function(batch, learning_rate)

    def _run(self, batch: Batch, learning_rate: Any) -> tuple[Any, ...]:
        results = self.strategy.run(self._replica, args=(batch, learning_rate))
        return tuple(self.strategy.experimental_local_results(result)[0] for result in results)

    def _replica(self, batch: Batch, learning_rate: Any) -> tuple[Any, ...]:
        moving = [tf.identity(variable) for variable in self.moving]
        loss, gradients = self.summed(batch, tf.identity(self.adam.scale))
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            loss, *gradients = replica.all_reduce("SUM", [tf.identity(loss), *gradients])
        norm = tf.linalg.global_norm(gradients) / self.adam.scale
        finite = self.adam.update(gradients, learning_rate, tf.math.is_finite(loss))
        for variable, before in zip(self.moving, moving, strict=True):
            variable.assign(tf.where(finite, variable, before))  # not from a bad batch
        if self.average is not None:
            self.average.update(finite)
        return loss, finite, norm

    def summed(self, batch: Batch, scale: Any) -> tuple[Any, list[Any]]:
        """The loss and the gradients of a replica's share, summed over its parts."""
        first, *others = zip(*(tf.split(tensor, self.parts) for tensor in batch), strict=True)
        loss, gradients = self.local(Batch(*first), scale)
        for part in others:
            with tf.control_dependencies([loss, *gradients]):  # else all parts are in memory
                part = Batch(*(tf.identity(tensor) for tensor in part))
                more, added = self.local(part, scale)
            loss += more
            gradients = [one + other for one, other in zip(gradients, added, strict=True)]
        return loss, gradients

    def _local(self, batch: Batch, scale: Any) -> tuple[Any, list[Any]]:
        images = self.images(batch)
        with tf.GradientTape() as tape:
            values = self.objective.values(self._estimate, images, self.loss)
            # Divided by all examples of the step, so that the sum over parts and replicas is the
            # mean.
            loss = tf.reduce_sum(values) / self.examples
            scaled_loss = loss * scale
        return loss, tape.gradient(scaled_loss, self.adam.variables)

    def _estimate(self, images: Images) -> Any:
        return self.model(images.inputs, training=True)

    def images(self, batch: Batch) -> Images:
        """The images of a batch: noise, prior and dose as the network receives them."""
        clean = self.window.clean(batch.hu[..., None])  # (B, Z + 2 halo, Y, X, 1)
        clean = _mirrored(clean, batch.mirrored)
        if self.noise.additive:
            noisy = self.noise.add(clean, batch.sigma, batch.spectrum, batch.keys)
        else:
            noisy = self.window.noisy(batch.noisy_hu[..., None], self.noise.bounds)
            noisy = _mirrored(noisy, batch.mirrored)
        prior = dose = None
        if self.sees_dose:
            dose = tf.reshape(batch.dose, (-1, 1, 1, 1, 1))
        if self.source is not None:
            prior = weighted_slices(batch.weights, self.source.image(clean, noisy, batch.sigma))
        halo = (batch.hu.shape[1] - batch.weights.shape[1]) // 2
        inner = slice(halo, halo + batch.weights.shape[1])
        return Images(
            clean[:, inner], noisy[:, inner], prior, dose, noisy, batch.slices,
            tf.bitwise.bitwise_xor(batch.keys, _OTHER_KEY), self.window.width_hu,
        )  # fmt: skip


def _mirrored(images: Any, mirrored: Any) -> Any:
    """(B, Z, Y, X, C) images, mirrored along X where the (B,) flags say so.

    They are float32: TensorFlow cannot mirror int16 on a GPU.
    """
    return tf.where(mirrored[:, None, None, None, None], tf.reverse(images, [3]), images)
