"""The layers and weights of a Keras network in PyTorch, to compare speeds. PyTorch is optional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from engine.inference.segments import operations


class _Step(NamedTuple):
    """A layer: the tensors that it takes and makes, and those that no later layer takes."""

    apply: Callable[..., Any]
    given: list[int]
    made: int
    free: list[int]


class TorchNetwork:
    """A U-Net in PyTorch: (B, 1, Z, Y, X) of each input -> (B, 1, Z, Y, X).

    A tensor is freed after the last layer that takes it, as in a module written by hand.

    Args:
        model: a Keras model.

    Attributes:
        parameters: kernels and biases.

    Raises:
        ValueError: for a layer that a U-Net of this package without normalisation does not have.
    """

    def __init__(self, model: Any) -> None:
        found = [
            (layer, [id(t) for t in given], id(out)) for layer, given, out in operations(model)
        ]
        last = {tensor: number for number, (_, given, _) in enumerate(found) for tensor in given}
        self._inputs, self._output = [id(tensor) for tensor in model.inputs], id(model.outputs[0])
        self.parameters: list[Any] = []
        self._steps = [
            _Step(
                _torch_layer(layer, self.parameters), given, made,
                [t for t in set(given) if last[t] == number],
            )
            for number, (layer, given, made) in enumerate(found)
        ]  # fmt: skip

    def __call__(self, *images: Any) -> Any:
        """The estimate. Gradients are not recorded."""
        import torch

        with torch.inference_mode():
            return self.forward(*images)

    def forward(self, *images: Any) -> Any:
        """The estimate, with gradients if the parameters require them."""
        made = dict(zip(self._inputs, images, strict=True))
        for step in self._steps:
            made[step.made] = step.apply(*(made[tensor] for tensor in step.given))
            for tensor in step.free:
                del made[tensor]
        return made[self._output]


class TorchTraining:
    """Training steps of a network in PyTorch: mean squared error, Adam.

    Args:
        model: a Keras model.
        learning_rate: of Adam.
    """

    def __init__(self, model: Any, learning_rate: float) -> None:
        import torch

        self._network = TorchNetwork(model)
        parameters = [parameter.requires_grad_() for parameter in self._network.parameters]
        self._adam = torch.optim.Adam(parameters, learning_rate)

    def step(self, images: list[Any], clean: Any) -> float:
        """The loss before an update of the parameters.

        Args:
            images: (B, 1, Z, Y, X) inputs of the network.
            clean: (B, 1, Z, Y, X).
        """
        from torch.nn import functional

        self._adam.zero_grad(set_to_none=True)
        loss = functional.mse_loss(self._network.forward(*images), clean)
        loss.backward()
        self._adam.step()
        return float(loss.detach())


def _torch_layer(layer: Any, parameters: list[Any]) -> Callable[..., Any]:
    import torch
    from torch.nn import functional

    kind = type(layer).__name__
    if kind == "Conv3D" and layer.padding == "same" and {*layer.strides} == {1} and layer.use_bias:
        return _convolution(layer, parameters)
    if kind == "MaxPooling3D":
        return lambda x: functional.max_pool3d(x, layer.pool_size)
    if kind == "UpSampling3D":
        return lambda x: functional.interpolate(x, scale_factor=layer.size, mode="nearest")
    if kind == "Concatenate":
        return lambda *parts: torch.cat(parts, 1)
    if kind == "Add":
        return lambda *parts: sum(parts[1:], parts[0])
    raise ValueError(f"{layer.name} is a layer ({kind}) that a plain U-Net does not have")


def _convolution(layer: Any, parameters: list[Any]) -> Callable[[Any], Any]:
    import torch
    from torch.nn import functional

    # (Z, Y, X, in, out) -> (out, in, Z, Y, X)
    kernel = torch.from_numpy(np.ascontiguousarray(layer.kernel.numpy().transpose(4, 3, 0, 1, 2)))
    weight = kernel.to(memory_format=torch.channels_last_3d)  # the faster order on CPUs
    bias = torch.from_numpy(layer.bias.numpy().copy())
    parameters += [weight, bias]
    margin = [extent // 2 for extent in layer.kernel_size]
    relu = layer.activation.__name__ == "relu"

    def apply(x: Any) -> Any:
        x = functional.conv3d(x, weight, bias, padding=margin)
        return x.relu_() if relu else x

    return apply
