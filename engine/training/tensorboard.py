"""TensorBoard: event files, written with classes of TensorFlow.

TensorBoard itself need not be installed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine import runtime
from volumes.storage.atomic import make_folder


class Events:
    """The event file of one process.

    After a resume, TensorBoard drops later steps of earlier files, so that repeated steps are not
    drawn twice. All data are in metrics.jsonl, too: an error here does not end the training.
    """

    def __init__(self, folder: Path, step: int, warn: Callable[[str], None]) -> None:
        tf = runtime.tensorflow()
        self._folder, self._warn, self._refused = folder, warn, tf.errors.OpError
        from tensorflow.core.util import event_pb2

        self._event: Any = event_pb2.Event
        make_folder(folder)
        name = f"events.out.tfevents.{int(time.time())}.{os.getpid()}"
        self._writer: Any = tf.io.TFRecordWriter(os.fsencode(folder / name))
        self._write(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=step + 1, session_log=start)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes numbers by tag."""
        self._summary(step, [{"tag": tag, "simple_value": v} for tag, v in values.items()])

    def picture(self, step: int, tag: str, png: bytes) -> None:
        """Writes a PNG image."""
        from tensorflow.core.framework import summary_pb2

        image = summary_pb2.Summary.Image(encoded_image_string=png)
        self._summary(step, [{"tag": tag, "image": image}])

    def close(self) -> None:
        """Closes the file."""
        with suppress(self._refused):
            if self._writer is not None:
                self._writer.close()

    def _summary(self, step: int, values: list[dict[str, Any]]) -> None:
        from tensorflow.core.framework import summary_pb2

        parts = [summary_pb2.Summary.Value(**value) for value in values]
        self._write(step=step, summary=summary_pb2.Summary(value=parts))

    def _write(self, **fields: Any) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(self._event(wall_time=time.time(), **fields).SerializeToString())
            self._writer.flush()
        except self._refused as error:
            self._warn(
                f"{self._folder}: cannot be written ({error.message}); TensorBoard shows no new "
                "steps until the run is resumed; metrics.jsonl is complete"
            )
            self._writer = None  # closing it would raise again for the buffered data
