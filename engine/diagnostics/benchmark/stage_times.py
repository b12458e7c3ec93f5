"""Stage times: the processor seconds of the stages of a command, measured in all its threads.

Python's profiling hook notes when the function of a stage begins and ends. The work itself needs no
clocks. A stage that is called by another is not counted in both.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StageTimes:
    """The processor seconds of stages.

    Args:
        stages: name of the stage by function, as "module:qualified name".

    Attributes:
        seconds: by stage, while `measuring`.
    """

    def __init__(self, stages: Mapping[str, str]) -> None:
        self._stages = stages
        self._names = {function.partition(":")[2] for function in stages}
        self._thread = _Thread()
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measures this thread, and those that are started meanwhile."""
        before = sys.getprofile(), threading.getprofile()
        threading.setprofile(self._notice)
        sys.setprofile(self._notice)
        try:
            yield
        finally:
            sys.setprofile(before[0])
            threading.setprofile(before[1])

    def _notice(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return") or frame.f_code.co_qualname not in self._names:
            return
        module = frame.f_globals.get("__name__")
        stage = self._stages.get(f"{module}:{frame.f_code.co_qualname}")
        if stage is None:
            return
        now, thread = time.thread_time(), self._thread
        if thread.stages:
            with self._lock:
                self.seconds[thread.stages[-1]] += now - thread.since
        thread.since = now
        if event == "call":
            thread.stages.append(stage)
        elif thread.stages:
            thread.stages.pop()


class _Thread(threading.local):
    """The stages that a thread is in, and its processor seconds when it entered the last one."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.since = 0.0
