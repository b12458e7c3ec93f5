"""TensorBoard: event files, written with classes of TensorFlow.

TensorBoard itself need not be installed.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import runtime
from volumes.storage.atomic import make_folder

_BINS = 30  # as TensorBoard's own histograms
_HEAD, _TAIL = 12, 4  # bytes of a record before and after its event: length and checksums
_VALIDATION = "validation"  # tags of a validation begin with it


class Events:
    """The event file of one process.

    After a resume, later steps are cut off the files of earlier processes, so that repeated steps
    are not drawn twice. A TensorBoard that runs meanwhile is told to drop them. All data are in
    metrics.jsonl, too: an error here does not end the training.
    """

    def __init__(
        self, folder: Path, step: int, warn: Callable[[str], None], *, unvalidated: bool = False
    ) -> None:
        """Opens a new file, to continue after a step.

        Args:
            folder: of the files.
            step: that the training continues from; -1 if it starts anew.
            warn: called with a message if the files cannot be written.
            unvalidated: whether the validation of that step is due: that of an earlier attempt is
                cut off.
        """
        tf = runtime.tensorflow()
        self._folder, self._warn, self._refused = folder, warn, (tf.errors.OpError, OSError)
        from tensorflow.core.util import event_pb2

        self._event: Any = event_pb2.Event
        make_folder(folder)
        self._writer: Any = None
        try:
            for path in sorted(folder.glob("events.out.tfevents.*")):
                _cut(path, self._event, step, unvalidated=unvalidated)
            name = f"events.out.tfevents.{int(time.time())}.{os.getpid()}"
            while (folder / name).exists():  # of an earlier training of this process
                name += ".again"
            self._writer = tf.io.TFRecordWriter(os.fsencode(folder / name))
        except self._refused as error:
            self._give_up(error)
        self._write(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=step + 1, session_log=start)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes numbers by tag."""
        self._summary(step, [{"tag": tag, "simple_value": v} for tag, v in values.items()])

    def histograms(self, step: int, values: dict[str, npt.NDArray[Any]]) -> None:
        """Writes the distributions of arrays by tag. Values that are not finite are left out."""
        found = [(tag, array[np.isfinite(array)]) for tag, array in values.items()]
        self._summary(
            step, [{"tag": tag, "histo": _histogram(array)} for tag, array in found if array.size]
        )

    def picture(self, step: int, tag: str, png: bytes) -> None:
        """Writes a PNG image."""
        from tensorflow.core.framework import summary_pb2

        image = summary_pb2.Summary.Image(encoded_image_string=png)
        self._summary(step, [{"tag": tag, "image": image}])

    def close(self) -> None:
        """Closes the file."""
        with suppress(*self._refused):
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
            self._give_up(error)

    def _give_up(self, error: Any) -> None:
        cause = getattr(error, "message", None) or getattr(error, "strerror", None) or error
        self._warn(
            f"{self._folder}: cannot be written ({cause}); TensorBoard shows no new "
            "steps until the run is resumed; metrics.jsonl is complete"
        )
        self._writer = None  # closing it would raise again for the buffered data


def _histogram(values: npt.NDArray[Any]) -> dict[str, Any]:
    exact = values.astype(np.float64).ravel()
    counts, edges = np.histogram(exact, _BINS)
    return {
        "min": exact.min(), "max": exact.max(), "num": exact.size, "sum": exact.sum(),
        "sum_squares": np.vecdot(exact, exact), "bucket_limit": edges[1:], "bucket": counts,
    }  # fmt: skip


def _cut(path: Path, kind: Any, step: int, *, unvalidated: bool) -> None:
    """Cuts off the events of a file after a step. A file that shows nothing is removed.

    The events of a process are in the order of their steps. TensorBoard reads no further than to
    an incomplete or damaged event, and neither is read here.

    Raises:
        OSError: if the file cannot be read or written.
    """
    end = shown = 0
    with open(path, "rb+") as file:
        left = os.fstat(file.fileno()).st_size
        while len(head := file.read(_HEAD)) == _HEAD:
            size = struct.unpack_from("<Q", head)[0] + _TAIL
            left -= _HEAD + size
            try:
                event = kind.FromString(file.read(size)[:-_TAIL]) if left >= 0 else None
            except Exception:  # protobuf's own, which it raises from several places
                event = None
            if event is None or _is_later(event, step, unvalidated=unvalidated):
                break
            end += _HEAD + size
            shown += event.HasField("summary")
        file.truncate(end)
    if not shown:
        path.unlink()


def _is_later(event: Any, step: int, *, unvalidated: bool) -> bool:
    if unvalidated and event.step == step:
        return any(value.tag.startswith(_VALIDATION) for value in event.summary.value)
    return bool(event.step > step and event.HasField("summary"))
