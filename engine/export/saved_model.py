"""SavedModel: TensorFlow's own format, a folder that needs no Keras and no code of the engine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import CannotWrite
from engine.export.agreement import Tensors
from engine.inference.predictor import tensor
from volumes.storage.atomic import cannot_write, sync_folder, synced_file

DESCRIPTION = "network.json"


class SavedModel:
    """A network as SavedModel in a temporary folder beside its place, until it is kept.

    Args:
        estimate: the function of `engine.export.export.served`.
        model: the Keras model, whose variables are saved.
        folder: the temporary folder.

    Attributes:
        by: what applies it.
    """

    def __init__(self, estimate: Any, model: Any, folder: Path) -> None:
        import tensorflow as tf

        module = tf.Module()
        module.model, module.estimate = model, estimate
        try:
            tf.saved_model.save(module, str(folder), signatures={"serving_default": estimate})
        except tf.errors.OpError as error:
            raise CannotWrite(
                folder, f"cannot be written: {error.message}", "Choose another place"
            ) from error
        except OSError as error:
            raise cannot_write(folder, error) from error
        self.by = f"tensorflow {tf.__version__}"
        self._folder = folder
        self._served = tf.saved_model.load(str(folder)).signatures["serving_default"]

    def apply(self, images: Tensors) -> npt.NDArray[np.float32]:
        """The estimate of one volume, (1, Z, Y, X, 1) in window units."""
        found = self._served(**{name: tensor(image[0, ..., 0]) for name, image in images.items()})
        return np.asarray(found["estimate"].numpy(), np.float32)

    def keep(self, target: Path, about: dict[str, Any]) -> None:
        """Adds the description, and moves the folder to its place.

        Raises:
            CannotWrite: if the system reports an error.
        """
        try:
            with synced_file(self._folder / DESCRIPTION) as file:
                file.write(json.dumps(about, indent=2).encode() + b"\n")
            for path in self._folder.rglob("*"):
                if path.is_file():
                    _sync(path)
            os.rename(self._folder, target)
            sync_folder(target.parent)
        except OSError as error:
            raise cannot_write(target, error) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """The name of a folder beside `target`, which is removed at the end if it still exists."""
    folder = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
