"""`engine export`: a trained network as an ONNX file or a SavedModel."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import runtime
from engine.errors import CannotWrite
from engine.export import onnx_file, saved_model
from engine.export.agreement import (
    Applied,
    largest_difference_hu,
    refuse_different,
    refuse_unknown_inputs,
    sample,
)
from engine.export.description import Check, as_text, description, licence_of
from engine.output_paths import refuse_file_name
from engine.runs.run import Run
from engine.runs.trained_model import Model, open_model
from engine.terminal import Terminal
from volumes import nifti
from volumes.nifti import Scan
from volumes.nifti.read_options import STRICT
from volumes.storage.atomic import refuse_unwritable


@dataclass(frozen=True)
class ExportRequest:
    """The arguments of `engine export`.

    Attributes:
        run: run folder of the network.
        target: a .onnx file, or a folder for a SavedModel.
        checkpoint: of the run: best, last or a step.
        scan: on which the file is compared with the engine; None takes a phantom.
        licence: of the weights, for the metadata.
        overwrite: whether an existing file is replaced.
    """

    run: Run
    target: Path
    checkpoint: str = "best"
    scan: Path | None = None
    licence: str | None = None
    overwrite: bool = False


def export(request: ExportRequest, terminal: Terminal) -> None:
    """Exports a network, compares it with the engine's, and writes it only if both agree.

    Raises:
        BadInput: if the scan cannot be used.
        BadUsage: if the target or a library does not fit.
        CannotWrite: if the target exists, or cannot be written.
        Mismatch: if the run cannot be used.
        NumericalFailure: if the exported network differs from the engine's.
    """
    is_onnx = request.target.suffix.lower() == ".onnx"
    if is_onnx:
        onnx_file.refuse_without_extra()
    _refuse_target(request.target, is_file=is_onnx, overwrite=request.overwrite)
    model = open_model(request.run, request.checkpoint)
    scan = None if request.scan is None else nifti.open_scan(request.scan, STRICT)
    runtime.start_inference("cpu")
    network = model.network()
    names = [image.name for image in network.inputs]
    refuse_unknown_inputs(model.recipe.network, names)
    checked = _Checked(model, network, scan, request, terminal)
    estimate, signature = served(network)
    if is_onnx:
        made = onnx_file.OnnxNetwork(estimate, signature)
        about = checked.about(made.apply, made.by)
        made.write(request.target, as_text(about), overwrite=request.overwrite)
    else:
        with saved_model.temporary_folder(request.target) as folder:
            saved = saved_model.SavedModel(estimate, network, folder)
            saved.keep(request.target, checked.about(saved.apply, saved.by))
    terminal.result(str(request.target))


def served(network: Any) -> tuple[Any, list[Any]]:
    """The estimate of a network as a function of its named inputs, and their signature.

    Shapes are open. The function returns {"estimate": (B, Z, Y, X, 1)}.

    Args:
        network: the Keras model.
    """
    import tensorflow as tf

    signature = [tf.TensorSpec(i.shape, i.dtype, name=i.name) for i in network.inputs]

    def estimate(*images: Any) -> Any:
        given = list(images) if len(images) > 1 else images[0]
        return {"estimate": network(given, training=False)}

    return tf.function(estimate, input_signature=signature), signature


@dataclass(frozen=True)
class _Checked:
    """What compares an exported network with the engine's, and describes it."""

    model: Model
    network: Any
    scan: Scan | None
    request: ExportRequest
    terminal: Terminal

    def about(self, applied: Applied, by: str) -> dict[str, Any]:
        recipe = self.model.recipe
        given = sample(recipe, self.scan)
        found = largest_difference_hu(self.network, applied, given, recipe.window)
        refuse_different(self.request.target, found, recipe.window)
        where = "a phantom" if self.scan is None else str(self.scan.path)
        self.terminal.say(
            f"Largest difference from the engine: {found:.2g} {recipe.window.unit_name} "
            f"on {where} ({by})"
        )
        licence = licence_of(self.model, self.request.licence)
        return description(self.model, licence, Check(given, found, by))


def _refuse_target(target: Path, *, is_file: bool, overwrite: bool) -> None:
    if not is_file:
        refuse_file_name(target, "PATH")
    refuse_unwritable(target.absolute().parent)
    if os.path.lexists(target) and not (is_file and overwrite and target.is_file()):
        remedy = "Remove it, or ask for --overwrite" if is_file else "Remove it, or name another"
        raise CannotWrite(target, "exists already", remedy)
