"""Network check: whether a network of the user is what its class says.

Tiles overlap by `radius` and lie on multiples of `stride`. If these are wrong, a tiled scan has
seams, which no error tells. The check applies the network, with random weights, to a few columns of
random voxels, on the CPU. It takes seconds for any network. Voxels with hardly any influence go
unnoticed: of a U-Net with a radius of 23, it notices a radius of 21, but not of 22.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import runtime
from engine.errors import BadUsage
from engine.networks import Network
from volumes import random_draws

_BESIDE = 8  # voxels along the other two axes, at least
_SHAKEN = 0.05  # added to the weights: a network may begin with a head of zeros
_ROUNDING = 1e-6  # of the deviation of the estimate
_AXES = "ZYX"


def check_network(network: Network) -> list[str]:
    """Builds a network, and compares it with what its class declares.

    Returns:
        Warnings about a wrong radius, too few bytes per voxel, and weights that ignore the seed.

    Raises:
        BadUsage: if it cannot be built, trained or saved: naming what is wrong.
    """
    kind = type(network).__name__
    for field, least in (("stride", 1), ("radius", 0)):
        value = getattr(network, field)
        if not _are_voxels(value, least):
            cause = f"{kind}.{field} is {value!r}, not (Z, Y, X) in whole voxels from {least}"
            raise BadUsage("network", cause, "Correct it")
    with runtime.tensorflow().device("/cpu:0"):
        return list(_findings(network, kind))


def _are_voxels(value: Any, least: int) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 3
        and all(type(each) is int and each >= least for each in value)
    )


def _findings(network: Network, kind: str) -> Iterator[str]:
    try:
        model, again = (network.build(precision="float32", seed=0) for _ in range(2))
    except Exception as error:  # it is the user's
        cause = f"{kind}.build() fails with {type(error).__name__}: {error}"
        raise BadUsage("network", cause, "Correct it") from error
    names = [given.name for given in model.inputs]
    if len(names) != 1 + network.sees_prior + network.sees_dose:
        cause = f"{kind} builds a model of {len(names)} inputs, which sees_prior and sees_dose deny"
        raise BadUsage("network", cause, "Set sees_prior, if the prior is its second input")
    if network.sees_dose and names[1] != "dose":
        raise BadUsage("network", f"{kind} has no input named dose", "Name its second input dose")
    paths = [[variable.path for variable in each.weights] for each in (model, again)]
    if unlike := [one for one, other in zip(*paths, strict=True) if one != other]:
        cause = f"{kind} has a layer without a name ({unlike[0]}), by which checkpoints know it"
        raise BadUsage("network", cause, "Give every layer a name")
    if len(set(paths[0])) < len(paths[0]):
        raise BadUsage("network", f"{kind} has two weights of one name", "Rename a layer")
    weights = zip(model.weights, again.weights, strict=True)
    if unlike := [v.path for v, w in weights if not np.array_equal(v.numpy(), w.numpy())]:
        yield f"{kind}: {unlike[0]} does not begin as the seed says: seed its initializer"
    _shake(model)
    for axis in range(3):
        if _reaches_farther(network, model, axis):
            yield (
                f"{kind}: sees farther along {_AXES[axis]} than its radius, "
                f"{network.radius[axis]}: tiles will have seams"
            )
    held, layer = _bytes_per_voxel(network, model)
    if held > 2 * network.bytes_per_voxel:
        yield (
            f"{kind}: bytes_per_voxel is {network.bytes_per_voxel}, but its layer {layer} alone "
            f"needs {held:.0f}"
        )


def _shake(model: Any) -> None:
    rng = random_draws.rng(0, "network check")
    for variable in model.trainable_variables:
        noise = rng.standard_normal(tuple(variable.shape), np.float32)
        variable.assign(variable + _SHAKEN * noise)


def _reaches_farther(network: Network, model: Any, axis: int) -> bool:
    """Whether an estimate depends on voxels beyond the radius, along one axis.

    Raises:
        BadUsage: if the estimate has another shape than the image.
    """
    stride, radius = network.stride[axis], network.radius[axis]
    first = (-(-radius // stride) + 1) * stride
    shape = [max(each, -(-_BESIDE // each) * each) for each in network.stride]
    shape[axis] = 2 * first + stride
    near = [slice(None)] * 3
    near[axis] = slice(first - radius, first + stride + radius)
    rng = random_draws.rng(0, "network check", axis)
    images = [rng.random(shape, np.float32) for _ in range(2 if network.sees_prior else 1)]
    others = [rng.random(shape, np.float32) for _ in images]
    for image, other in zip(images, others, strict=True):
        other[tuple(near)] = image[tuple(near)]
    one, two = (_estimate(network, model, given) for given in (images, others))
    if one.shape != tuple(shape):
        cause = f"{type(network).__name__} makes {one.shape} of an image of {tuple(shape)}"
        raise BadUsage("network", cause, "Keep the shape of images that are multiples of stride")
    near[axis] = slice(first, first + stride)
    apart = np.abs(one[tuple(near)] - two[tuple(near)]).max()
    return bool(apart > _ROUNDING * one.std())


def _estimate(
    network: Network, model: Any, images: list[npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    given = [image[None, ..., None] for image in images]
    if network.sees_dose:
        given.append(np.zeros((1, 1, 1, 1, 1), np.float32))
    try:
        estimate = model(given if len(given) > 1 else given[0], training=False)
    except (ValueError, runtime.tensorflow().errors.InvalidArgumentError) as error:
        shape = images[0].shape
        first = str(error).strip().splitlines()[0]
        cause = f"{type(network).__name__} takes no image of {shape}, a multiple of its stride"
        raise BadUsage("network", f"{cause} ({first})", "Correct stride") from error
    whole: npt.NDArray[np.float32] = np.asarray(estimate)[0, ..., 0]
    return whole


def _bytes_per_voxel(network: Network, model: Any) -> tuple[float, str]:
    """What the layer with the largest input and output needs in float32, and its name."""
    return max(_needs(network, model))


def _needs(network: Network, model: Any) -> Iterator[tuple[float, str]]:
    import keras

    shape = [4 * each for each in network.stride]
    images = [
        keras.KerasTensor((1, 1, 1, 1, 1) if given.name == "dose" else (1, *shape, 1))
        for given in model.inputs
    ]
    whole = keras.Model(model.inputs, [layer.output for layer in model.layers])
    outputs = whole.compute_output_spec(images if len(images) > 1 else images[0])
    sizes = {
        id(layer.output): 4 * math.prod(output.shape) / math.prod(shape)
        for layer, output in zip(model.layers, outputs, strict=True)
    }
    for layer in model.layers:
        given = layer.input if isinstance(layer.input, list) else [layer.input]
        held = sizes[id(layer.output)] + sum(sizes.get(id(tensor), 0.0) for tensor in given)
        yield held, layer.name
