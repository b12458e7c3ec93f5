"""Trainings in processes that tests kill, forked from one that has imported TensorFlow.

Importing takes seconds, and no operation has run when a process is forked, so that each of them is
like one that was started anew. Faults are aimed by operations on the disk or by calls.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from engine.networks import UNet3D
from engine.recipe import serialization
from tests.gates.disk import Disk, Operation, sending

PRELOADED = ["tests.gates.trainings", "tests.gates.preloaded"]


@dataclass(frozen=True)
class Aim:
    """When a fault comes: at an operation within a save, or at a call.

    Attributes:
        phase: of a save, as `phase` names them; or the dotted name of a function.
        skip: how many are let pass before.
        signals: that are sent, one after the other.
        apart_s: between them.
    """

    phase: str
    skip: int = 0
    signals: tuple[str, ...] = ("SIGKILL",)
    apart_s: float = 0.0

    def send(self) -> None:
        for i, name in enumerate(self.signals):
            time.sleep(self.apart_s if i else 0)
            sending(signal.Signals[name])()


def phase(operation: Operation) -> str:
    """What an operation of a training is to a save."""
    path, kind = operation.path, operation.kind
    if "checkpoints" not in path.parts or path.name == "checkpoints":
        return f"{kind} {path.name.split('.')[-1] if path.name.startswith('.') else path.name}"
    if kind == "rename":
        return "rename into place" if path.name.startswith(".") else "rename away"
    if kind in ("unlink", "rmdir"):
        return kind
    return f"{kind} {'aside' if path.suffix == '.tmp' else path.name}"


def fit(words: list[str], cache: Path, said: Path, aim: Aim | None, noted: Path | None) -> None:
    """The process of `engine fit`.

    Args:
        words: of the command line; --run among them.
        cache: where scans are kept.
        said: takes what it says.
        aim: of what befalls it.
        noted: takes the phases of what it did to its run folder.
    """
    from engine.cli.main import run

    os.environ["ENGINE_CACHE"] = str(cache)
    serialization._KINDS.setdefault("Dropping", Dropping)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with open(said, "ab", buffering=0) as out:
        for descriptor in (1, 2):
            os.dup2(out.fileno(), descriptor)
    left = aim.skip if aim else 0

    def strike(_: int, operation: Operation) -> Callable[[], None] | None:
        nonlocal left
        if aim is None or phase(operation) != aim.phase:
            return None
        left -= 1
        if left != -1:
            return None
        if aim.signals == ("SIGKILL",):
            return aim.send
        aim.send()  # what goes on writes whole
        return None

    disk = Disk(Path(words[words.index("--run") + 1]), strike)
    with contextlib.ExitStack() as stack:
        if aim and aim.phase.startswith(("engine.", "volumes.")):
            stack.enter_context(_calling(aim))
        stack.enter_context(disk.watched())
        code = run(["fit", *words])
    if noted is not None:
        noted.write_text(json.dumps([phase(operation) for operation in disk.done]))
    sys.stdout.flush()
    os._exit(code)


@contextlib.contextmanager
def _calling(aim: Aim) -> Any:
    """Sends the signals when a function is called."""
    from unittest import mock

    module, name = aim.phase.rsplit(".", 1)
    try:
        owner: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        module, kind = module.rsplit(".", 1)
        owner = getattr(importlib.import_module(module), kind)
    call, left = getattr(owner, name), aim.skip

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left == -1:
            aim.send()
        return call(*args, **kwargs)

    with mock.patch.object(owner, name, called):
        yield


@dataclass(frozen=True)
class Dropping(UNet3D):
    """A network with state beyond its weights: two dropouts, and batch statistics."""

    stride = (1, 1, 1)
    radius = (1, 1, 1)
    bytes_per_voxel = 64

    def build(self, *, precision: str = "float32", seed: int = 0) -> Any:
        import keras
        from keras import layers

        x = image = keras.Input((None, None, None, 1))
        for i in (1, 2):
            glorot = keras.initializers.GlorotUniform(seed=seed + i)
            x = layers.Conv3D(2, 3, padding="same", kernel_initializer=glorot, name=f"c{i}")(x)
            x = layers.BatchNormalization(name=f"n{i}")(x)
            x = layers.Dropout(0.2, seed=seed + i, name=f"d{i}")(x)
        glorot = keras.initializers.GlorotUniform(seed=seed)
        return keras.Model(image, layers.Conv3D(1, 1, kernel_initializer=glorot, name="head")(x))


RECIPE = """
from dataclasses import replace

from engine.recipe.recipe_file import find_recipe, load_recipe
from tests.gates.trainings import Dropping

recipe = replace(load_recipe(find_recipe("unet3d")), network=Dropping())
"""


# -- From without ----------------------------------------------------------------------------------


def start(
    words: list[str], cache: Path, said: Path, aim: Aim | None = None, noted: Path | None = None
) -> BaseProcess:
    """Starts the process of `fit`; it has imported what takes long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    started = context.Process(target=fit, args=(words, cache, said, aim, noted))
    started.start()
    return started


def ended(process: BaseProcess, within_s: float = 600) -> int:
    """How a process ended: its exit code, or the negative number of a signal."""
    process.join(within_s)
    if process.is_alive():
        process.kill()
        raise AssertionError("a training hangs")
    code = process.exitcode
    process.close()
    assert code is not None
    return code
