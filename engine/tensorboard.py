"""TensorBoard: event files, written by the records that TensorFlow ships.

TensorBoard itself is not needed to write them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from engine import runtime
from volumes.atomic import make_folder


class Events:
    """The event file of one process; it goes on where the run was resumed.

    TensorBoard drops what earlier files say of later steps: a lost stretch is not drawn twice.
    """

    def __init__(self, folder: Path, step: int) -> None:
        tf = runtime.tensorflow()
        from tensorflow.core.util import event_pb2

        self._event: Any = event_pb2.Event
        make_folder(folder)
        name = f"events.out.tfevents.{int(time.time())}.{os.getpid()}"
        self._writer = tf.io.TFRecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=step + 1, session_log=start)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers by tag."""
        self._summary(step, [{"tag": tag, "simple_value": v} for tag, v in values.items()])

    def picture(self, step: int, tag: str, png: bytes) -> None:
        """A PNG picture."""
        from tensorflow.core.framework import summary_pb2

        image = summary_pb2.Summary.Image(encoded_image_string=png)
        self._summary(step, [{"tag": tag, "image": image}])

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()

    def _summary(self, step: int, values: list[dict[str, Any]]) -> None:
        from tensorflow.core.framework import summary_pb2

        parts = [summary_pb2.Summary.Value(**value) for value in values]
        self._write(step=step, summary=summary_pb2.Summary(value=parts))

    def _write(self, **fields: Any) -> None:
        self._writer.write(self._event(wall_time=time.time(), **fields).SerializeToString())
        self._writer.flush()
