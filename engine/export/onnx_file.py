"""ONNX: the graph of a network by tf2onnx, applied by onnxruntime."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import BadUsage
from engine.export.agreement import Tensors
from engine.runtime import processors
from volumes.storage.atomic import whole_file

OPSET = 18  # of December 2022: any onnxruntime from 1.14 on applies it
_LIBRARIES = ("onnx", "onnxruntime", "tf2onnx")
_DIMENSIONS = ("batch", "Z", "Y", "X")


def refuse_without_extra() -> None:
    """Refuses to make an ONNX file where its libraries are not installed.

    Raises:
        BadUsage: naming the first that is missing.
    """
    for library in _LIBRARIES:
        if find_spec(library) is None:
            remedy = "Install 'respr-engine[export]', or name a folder for a SavedModel"
            raise BadUsage("export", f"needs {library} to make an ONNX file", remedy)


class OnnxNetwork:
    """A network as ONNX, in memory until it is written.

    Args:
        estimate: the function of `engine.export.export.served`.
        signature: its inputs.

    Attributes:
        by: what applies it.
    """

    def __init__(self, estimate: Any, signature: list[Any]) -> None:
        import tf2onnx

        self._proto, _ = tf2onnx.convert.from_function(estimate, signature, opset=OPSET)
        self.by = f"onnxruntime {version('onnxruntime')}"
        _name_output(self._proto.graph, "estimate")
        for value in (*self._proto.graph.input, *self._proto.graph.output):
            _name_dimensions(value)
        del self._proto.graph.value_info[:]  # made-up names of inner dimensions

    def apply(self, images: Tensors) -> npt.NDArray[np.float32]:
        """The estimate, (B, Z, Y, X, 1) in window units."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = processors()
        session = onnxruntime.InferenceSession(
            self._proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (estimate,) = session.run(["estimate"], dict(images))
        return np.asarray(estimate, np.float32)

    def write(self, path: Path, about: dict[str, str], *, overwrite: bool) -> None:
        """Writes the file with its metadata.

        Raises:
            CannotWrite: if it exists and must not be replaced, or cannot be written.
        """
        import onnx

        self._proto.producer_name, _, self._proto.producer_version = about["producer"].partition(
            " "
        )
        onnx.helper.set_model_props(self._proto, about)
        onnx.checker.check_model(self._proto)
        with whole_file(path, overwrite=overwrite) as file:
            file.write(self._proto.SerializeToString())


def _name_output(graph: Any, name: str) -> None:
    (output,) = graph.output
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [name if value == output.name else value for value in values]
    output.name = name


def _name_dimensions(value: Any) -> None:
    for dimension, name in zip(value.type.tensor_type.shape.dim, _DIMENSIONS, strict=False):
        if not dimension.dim_value:
            dimension.dim_param = name
