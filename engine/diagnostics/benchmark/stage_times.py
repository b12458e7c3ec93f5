"""Stage times: the processor seconds of the stages of a command.

Python's profiling hook notes when the function of a stage begins and ends. The work itself needs no
clocks. A stage that is called by another is not counted in both. The hook slows code of many calls,
such as TensorFlow's, so a command is timed as a whole without it.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StageTimes:
    """The processor seconds of stages that follow each other in one thread.

    The clock is that of the whole process: threads of TensorFlow, BLAS or a pool count for the
    stage that waits for them. Stages of other threads are not told apart.

    Args:
        stages: name of the stage by function, as "module:qualified name".

    Attributes:
        seconds: by stage, while `measuring`.
    """

    def __init__(self, stages: Mapping[str, str]) -> None:
        self._stages = stages
        self._names = {function.partition(":")[2] for function in stages}
        self._open: list[str] = []
        self._since = 0.0
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measures this thread, on one processor: then stages are not done beside each other."""
        before = sys.getprofile()
        sys.setprofile(self._notice)
        try:
            with _one_processor():
                yield
        finally:
            sys.setprofile(before)

    def _notice(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return") or frame.f_code.co_qualname not in self._names:
            return
        module = frame.f_globals.get("__name__")
        stage = self._stages.get(f"{module}:{frame.f_code.co_qualname}")
        if stage is None:
            return
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now
        if event == "call":
            self._open.append(stage)
        elif self._open:
            self._open.pop()


@contextmanager
def _one_processor() -> Iterator[None]:
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
