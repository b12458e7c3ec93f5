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
    Sample,
    largest_difference_hu,
    limit_hu,
    refuse_different,
    refuse_unknown_inputs,
    sample,
)
from engine.export.description import Check, as_text, description, licence_of
from engine.output_paths import refuse_file_name
from engine.runs.run import Run
from engine.runs.trained_model import open_model
from engine.terminal import Terminal
from volumes import nifti
from volumes.nifti.read_options import STRICT
from volumes.storage.atomic import refuse_unwritable
from volumes.window import Window

_ATTEMPTS = 10


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
    given = sample(model.recipe, scan)
    window = model.recipe.window
    licence = licence_of(model, request.licence)

    def about(difference_hu: float, by: str) -> dict[str, Any]:
        refuse_different(request.target, difference_hu, window)
        where = "a phantom" if scan is None else str(scan.path)
        words = f"{difference_hu:.2g} {window.unit_name} on {where} ({by})"
        terminal.say(f"Largest difference from the engine: {words}")
        return description(model, licence, Check(given, difference_hu, by))

    if is_onnx:
        made, found = converted(network, given, window)
        facts = as_text(about(found, made.by))
        made.write(request.target, facts, overwrite=request.overwrite)
    else:
        with saved_model.temporary_folder(request.target) as folder:
            saved = saved_model.SavedModel(served(network)[0], network, folder)
            found = largest_difference_hu(network, saved.apply, given, window)
            saved.keep(request.target, about(found, saved.by))
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


def converted(network: Any, given: Sample, window: Window) -> tuple[onnx_file.OnnxNetwork, float]:
    """A network as ONNX, and its largest difference from the engine in HU.

    The optimizer of tf2onnx 1.17 now and then removes a node too many: the same network converts
    well the next time. So a graph that differs is converted again.

    Args:
        network: the Keras model.
        given: the images.
        window: HU <-> window units.
    """
    for _ in range(_ATTEMPTS):
        made = onnx_file.OnnxNetwork(*served(network))
        found = largest_difference_hu(network, made.apply, given, window)
        if found <= limit_hu(window):
            break
    return made, found


def _refuse_target(target: Path, *, is_file: bool, overwrite: bool) -> None:
    if not is_file:
        refuse_file_name(target, "PATH")
    refuse_unwritable(target.absolute().parent)
    if os.path.lexists(target) and not (is_file and overwrite and target.is_file()):
        remedy = "Remove it, or ask for --overwrite" if is_file else "Remove it, or name another"
        raise CannotWrite(target, "exists already", remedy)
