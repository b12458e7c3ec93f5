"""Segments: the parts of a network whose slices can be computed together.

Layers that act on each slice alone follow the layer before them in one segment: they need no other
slices, so nothing between them is kept. A 2D network is a single segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from engine.inference.streamed_layers import StreamedLayer, UnknownLayerError, streamed_layer


@dataclass(frozen=True)
class SegmentInput:
    """An input of a segment.

    Attributes:
        tensor: `id` of the tensor.
        layer: that reads it; None if the segment needs the same slices as it computes.
    """

    tensor: int
    layer: StreamedLayer | None


@dataclass(frozen=True)
class Segment:
    """A part of a network.

    Attributes:
        inputs: what it reads.
        kept: `id`s of the tensors that it gives to others.
        apply: (images, (inputs, 2) counts as from `Reach.beyond`) -> the kept tensors.
        compiled: the same by XLA, which compiles it for each shape of the images anew; None
            without XLA.
    """

    inputs: list[SegmentInput]
    kept: list[int]
    apply: Any
    compiled: Any = None


def segments(model: Any, *, xla: bool = False) -> list[Segment]:
    """The segments of a Keras model, each after those that it depends on.

    Args:
        model: a graph of layers with one output.
        xla: whether they are compiled by XLA as well.

    Raises:
        UnknownLayerError: if a layer may depend on every slice, or the model is no graph of layers
            with one output.
    """
    parts: dict[int, _Part] = {}  # by the tensors that they make
    tensors = {id(tensor): tensor for tensor in model.inputs}
    for layer, given, output in operations(model):
        part = _Part([_Operation(streamed_layer(layer), [id(t) for t in given], id(output))])
        if part.operations[0].layer.reach is None:
            part = _Part([o for each in _joined(part, parts) for o in each.operations])
        parts |= {operation.output: part for operation in part.operations}
        tensors[id(output)] = output
    graph = {part: part.sources(parts) for part in parts.values()}
    read = {given.tensor for part in graph for given in part.inputs}
    read.add(id(model.outputs[0]))
    return [part.segment(read, tensors, xla) for part in TopologicalSorter(graph).static_order()]


@dataclass(frozen=True)
class _Operation:
    """A layer, the `id`s of the tensors that it takes, and that of its output."""

    layer: StreamedLayer
    given: list[int]
    output: int


@dataclass(frozen=True, eq=False)
class _Part:
    """Operations in order."""

    operations: list[_Operation]

    @property
    def inputs(self) -> list[SegmentInput]:
        made = {operation.output for operation in self.operations}
        found = [
            SegmentInput(tensor, operation.layer if operation.layer.reach else None)
            for operation in self.operations
            for tensor in operation.given
            if tensor not in made
        ]
        return list(dict.fromkeys(found))

    def sources(self, parts: dict[int, _Part]) -> set[_Part]:
        """The parts that its inputs come from."""
        return {parts[given.tensor] for given in self.inputs if given.tensor in parts}

    def segment(self, read: set[int], tensors: dict[int, Any], xla: bool) -> Segment:
        """The segment, which keeps the tensors that are read by others."""
        import tensorflow as tf

        inputs = self.inputs
        kept = [operation.output for operation in self.operations if operation.output in read]

        def apply(images: list[Any], beyond: Any) -> list[Any]:
            made: dict[int, Any] = {}
            at = dict(zip(inputs, zip(images, tf.unstack(beyond), strict=True), strict=True))
            for operation in self.operations:
                layer = operation.layer
                if layer.reach is None:
                    made[operation.output] = layer.apply(
                        [
                            made[t] if t in made else at[SegmentInput(t, None)][0]
                            for t in operation.given
                        ]
                    )
                else:
                    image, counts = at[SegmentInput(operation.given[0], layer)]
                    made[operation.output] = layer.apply(image, *tf.unstack(counts))
            return [made[tensor] for tensor in kept]

        shapes = [tensors[given.tensor] for given in inputs]
        images = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in shapes]
        counts = tf.TensorSpec((len(inputs), 2), tf.int32)
        signature = [images, counts]
        compiled = tf.function(apply, signature, jit_compile=True) if xla else None
        return Segment(inputs, kept, tf.function(apply, signature), compiled)


def _joined(part: _Part, parts: dict[int, _Part]) -> list[_Part]:
    """A new part after those before it that need not be finished for another input of it."""
    sources = part.sources(parts)
    free = [s for s in sources if not any(_depends(other, s, parts) for other in sources - {s})]
    order = {id(each): number for number, each in enumerate(parts.values())}
    return [*sorted(free, key=lambda each: order[id(each)]), part]


def _depends(part: _Part, on: _Part, parts: dict[int, _Part]) -> bool:
    sources = part.sources(parts)
    return on in sources or any(_depends(source, on, parts) for source in sources)


def operations(model: Any) -> Iterator[tuple[Any, list[Any], Any]]:
    """The layers of a model in order, each with the tensors that it takes and makes.

    Raises:
        UnknownLayerError: if the model is no graph of layers with one output.
    """
    from keras import layers, tree

    if not hasattr(model, "operations") or len(model.outputs) != 1:
        raise UnknownLayerError(type(model).__name__)
    made = {id(tensor) for tensor in model.inputs}
    for operation in model.operations:
        if isinstance(operation, layers.InputLayer):
            continue
        given = tree.flatten(operation.input)
        if any(id(tensor) not in made for tensor in given):  # of a layer that is used twice
            raise UnknownLayerError(operation.name)
        if not isinstance(operation, layers.Layer):  # of keras.ops
            (call, *_) = operation._inbound_nodes
            if len(tree.flatten([call.arguments.args, call.arguments.kwargs])) > len(given):
                raise UnknownLayerError(operation.name)  # a constant, as in 1 - x, would be lost
        made.add(id(operation.output))
        yield operation, given, operation.output
    if id(model.outputs[0]) not in made:
        raise UnknownLayerError(type(model).__name__)
