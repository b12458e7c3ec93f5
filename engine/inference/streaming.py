"""Streaming: a network applied along Z, so that every slice of every layer is computed once.

Slices enter the network in order. Each segment of it computes what follows from the slices that
have entered, and keeps only the slices that others still need. So no halo along Z is computed, and
the memory depends on the plane, not on the number of slices.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.inference.segments import Segment, SegmentInput, segments
from engine.inference.streamed_layers import Reach, UnknownLayerError

# (first, after) -> these slices of an image, (1, after - first, Y, X, 1)
Slices = Callable[[int, int], Any]


class Streaming:
    """A Keras model that can be streamed. Each segment is traced once, for any number of slices.

    Args:
        model: a graph of layers with one output. An input of one slice, such as the dose, belongs
            to every slice.
        xla: whether XLA may compile the segments.

    Raises:
        UnknownLayerError: if a layer may depend on every slice, or the model is no such graph.
    """

    def __init__(self, model: Any, *, xla: bool = False) -> None:
        self._segments = segments(model, xla=xla)
        self._model = model

    def estimate(
        self, images: Sequence[Slices], depth: int, step: int, slab: int, *, xla: bool = False
    ) -> Iterator[Any]:
        """The output in order, slab by slab: (1, slices, Y, X, 1).

        Args:
            images: the inputs of the model.
            depth: their slices, a multiple of the network's stride.
            step: slices that enter at a time.
            slab: slices of a slab.
            xla: whether XLA computes whole steps.

        Raises:
            UnknownLayerError: if a layer cannot be streamed at this depth.
        """
        stages, output = self.stages(images, depth, step, xla=xla)
        reader, done = output.reader(), 0
        while done < depth:
            for stage in stages:
                stage.advance()
            while done < depth and output.after >= (end := min(done + slab, depth)):
                yield output.window(done, end)
                output.release(reader, end)
                done = end

    def takes(self, depth: int) -> bool:
        """Whether the model can be streamed at this depth."""
        try:
            self.stages([_nothing for _ in self._model.inputs], depth, 1)
        except UnknownLayerError:
            return False
        return True

    def stages(
        self, images: Sequence[Slices], depth: int, step: int, *, xla: bool = False
    ) -> tuple[list[Stage], Kept]:
        """The stages at the start of a stream, in order, and the output. See `estimate`."""
        kept: dict[int, Kept] = {}
        stages: list[Stage] = []
        for tensor, slices in zip(self._model.inputs, images, strict=True):
            everywhere = tensor.shape[1] == 1
            kept[id(tensor)] = Kept(1 if everywhere else depth, everywhere=everywhere)
            stages.append(Stage.of_image(slices, kept[id(tensor)], step))
        for segment in self._segments:
            stages.append(Stage.of_segment(segment, kept, step / depth, xla=xla))
        output = kept[id(self._model.outputs[0])]
        if output.depth != depth:
            raise UnknownLayerError("an output of another depth")
        return stages, output


def _nothing(first: int, after: int) -> Any:
    raise AssertionError(f"slices {first} to {after} of no image")


class Kept:
    """The slices of an image or layer that others still need.

    Attributes:
        depth: all its slices.
        everywhere: whether its only slice belongs to every slice.
        after: how many slices are computed.
    """

    def __init__(self, depth: int, *, everywhere: bool = False) -> None:
        self.depth, self.everywhere, self.after = depth, everywhere, 0
        self._needed: list[int] = []  # by each reader: the first slice that it will ask for
        self._pieces: deque[tuple[int, Any]] = deque()  # first slice, (1, slices, Y, X, C)

    def __len__(self) -> int:
        """The number of slices in memory."""
        return sum(piece.shape[1] for _, piece in self._pieces)

    def reader(self) -> int:
        """The number of a new reader."""
        self._needed.append(0)
        return len(self._needed) - 1

    def append(self, slices: Any) -> None:
        """Keeps the next slices."""
        self._pieces.append((self.after, slices))
        self.after += slices.shape[1]

    def window(self, first: int, after: int) -> Any:
        """Slices that are kept. Those beyond the volume are zeros."""
        import tensorflow as tf

        parts = [self._zeros(-first)] if first < 0 else []
        for start, piece in self._pieces:
            low, high = max(first - start, 0), min(after - start, piece.shape[1])
            if low < high:
                parts.append(piece if high - low == piece.shape[1] else piece[:, low:high])
        if after > self.depth:
            parts.append(self._zeros(after - self.depth))
        return parts[0] if len(parts) == 1 else tf.concat(parts, 1)

    def _zeros(self, slices: int) -> Any:
        import tensorflow as tf

        _, piece = self._pieces[0]
        return tf.zeros((1, slices, *piece.shape[2:]), piece.dtype)

    def release(self, reader: int, first: int) -> None:
        """Frees the slices that no reader needs, if this one needs those from `first` on."""
        self._needed[reader] = first
        first = min(self._needed)
        while self._pieces and self._pieces[0][0] + self._pieces[0][1].shape[1] <= first:
            self._pieces.popleft()
        if self._pieces:
            start, piece = self._pieces[0]
            if 2 * (first - start) > piece.shape[1]:  # few are left, so the copy is cheap
                self._pieces[0] = first, piece[:, first - start :]


class _Input:
    """A reader of kept slices, for an input of a segment."""

    def __init__(self, given: SegmentInput, kept: Kept) -> None:
        self.kept, self._reader = kept, kept.reader()
        reach = given.layer.reach if given.layer else None
        self.reach = reach(kept.depth) if reach else Reach(kept.depth)

    def known(self) -> int:
        """How many slices of the segment follow from those that are computed."""
        complete = self.kept.after == self.kept.depth
        return self.reach.depth if complete else self.reach.known(self.kept.after)

    def take(self, first: int, after: int) -> tuple[Any, tuple[int, int]]:
        """What slices of the segment need, and `Reach.beyond`. Frees what is not needed."""
        if self.kept.everywhere:
            return self.kept.window(0, 1), (0, 0)
        start, end = self.reach.needs(first, after)
        if self.reach.raised:  # slices beyond the volume add nothing to these
            start, end = max(start, 0), min(end, self.kept.depth)
        window, beyond = self.kept.window(start, end), self.reach.beyond(first, after, (start, end))
        last = after == self.reach.depth
        rest = self.kept.depth if last else max(self.reach.needs(after, after + 1)[0], 0)
        self.kept.release(self._reader, rest)
        return window, beyond


@dataclass(frozen=True)
class Stage:
    """An image or a segment in a stream.

    Attributes:
        inputs: what it reads.
        outputs: what it computes.
        step: slices that it computes at a time, at most.
        compute: (first, after) -> these slices of the outputs.
    """

    inputs: list[_Input]
    outputs: list[Kept]
    step: int
    compute: Callable[[int, int], list[Any]]

    @classmethod
    def of_image(cls, slices: Slices, kept: Kept, step: int) -> Stage:
        """An image that enters `step` slices at a time."""
        return cls([], [kept], step, lambda first, after: [slices(first, after)])

    @classmethod
    def of_segment(
        cls, segment: Segment, kept: dict[int, Kept], pace: float, *, xla: bool = False
    ) -> Stage:
        """A segment that computes this share of its slices at a time. Its outputs are added."""
        inputs = [_Input(given, kept[given.tensor]) for given in segment.inputs]
        moving = [each for each in inputs if not each.kept.everywhere]
        depth, *others = {each.reach.depth for each in moving} or {1}
        if others:
            raise UnknownLayerError("inputs of other depths")
        outputs = [Kept(depth, everywhere=not moving) for _ in segment.kept]
        kept |= dict(zip(segment.kept, outputs, strict=True))
        block = math.lcm(*(each.reach.stride for each in moving if each.reach.raised))
        step = math.ceil(max(pace * depth, 1) / block) * block

        def compute(first: int, after: int) -> list[Any]:
            windows, beyond = zip(*(each.take(first, after) for each in inputs), strict=True)
            # Whole steps have one shape. Those at the ends have others, which XLA would compile.
            whole = xla and after - first == step
            apply = segment.compiled if whole else segment.apply
            found: list[Any] = apply(list(windows), np.array(beyond, np.int32))
            return found

        return cls(inputs, outputs, step, compute)

    def advance(self) -> None:
        """Computes the next slices, if they follow from those that have entered."""
        output = self.outputs[0]
        first = output.after
        known = (each.known() for each in self.inputs if not each.kept.everywhere)
        after = min(first + self.step, output.depth, *known)
        if first < after:
            for kept, slices in zip(self.outputs, self.compute(first, after), strict=True):
                kept.append(slices)
