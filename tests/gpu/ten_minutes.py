"""Uses ten minutes of a GPU: measures in order of worth, then trains until the time is over.

    python -m tests.gpu.ten_minutes --out DIR --data DATA -- respr_unet3d batch=4
    python -m tests.gpu.ten_minutes --out DIR --small --seconds 240       # the same on a CPU

Each part runs in a process of its own, within its own time: one that fails or hangs costs the
others nothing. `results.json` in DIR is whole after each part. The parts: the card's bfloat16
matrix product; the training step of the recipe in each precision, with and without XLA (crops a
second, device memory, wait for input, share of the matrix product); the same network in PyTorch,
if it is installed; `engine denoise` (see `tests.gpu.denoise`); a training that is killed and
resumed, compared to the bit; and the training that the words after `--` name, in DIR/run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_PRECISIONS = ("bfloat16", "float32", "float16")
_LEAVE_S = 20.0  # of the whole, to save and to bring files home
_TINY = ("crop.shape=8,16,16", "network.width=2", "network.levels=2", "batch=2")
_STOP_S = 60.0  # for a training to save its last checkpoint


class Sizes(NamedTuple):
    """How much is measured."""

    words: tuple[str, ...]  # overrides of the recipe
    steps: int
    matrix: int
    scan: str
    width: int
    part_s: float  # the most seconds of a part


FULL = Sizes((), 30, 8192, "300,512,512", 32, 90.0)
SMALL = Sizes(_TINY, 3, 256, "6,16,16", 2, 120.0)


class Session:
    """The parts that were done, and the time that is left.

    Args:
        out: folder of the results.
        seconds: of the whole.
        given: the words of every part.
    """

    def __init__(self, out: Path, seconds: float, given: list[str]) -> None:
        self.out, self._given = out, given
        self._until = time.monotonic() + seconds - _LEAVE_S
        self.results: dict[str, Any] = {}
        out.mkdir(parents=True, exist_ok=True)

    @property
    def left_s(self) -> float:
        """Seconds that are left for parts."""
        return self._until - time.monotonic()

    def part(self, name: str, most_s: float) -> Any:
        """Runs a part in a process; keeps its result, or why there is none."""
        begun, limit_s = time.monotonic(), min(most_s, self.left_s)
        found: Any = {"skipped": "no time was left"}
        if limit_s > 0:
            command = [sys.executable, "-m", "tests.gpu.ten_minutes", *self._given, "--part", name]
            found = _answer(command, limit_s)
        self.results[name] = {"took_s": round(time.monotonic() - begun, 1), "found": found}
        self.save()
        print(json.dumps({name: self.results[name]}), flush=True)
        return found

    def save(self) -> None:
        """Writes the results, whole."""
        new = self.out / "results.json.tmp"
        new.write_text(json.dumps(self.results, indent=2) + "\n")
        new.replace(self.out / "results.json")


def _answer(command: list[str], limit_s: float) -> Any:
    """The last line that a command prints, as JSON; else the end of what it says."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"failed": f"took more than {limit_s:.0f} s"}
    try:
        return json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        return {"failed": f"exit code {process.returncode}", "said": err[-600:]}


# -- The parts -------------------------------------------------------------------------------------


def matrix(sizes: Sizes, devices: str) -> dict[str, Any]:
    """The rate of a bfloat16 matrix product: the fastest of some."""
    from engine import runtime

    started = runtime.start(devices)
    tf = runtime.tensorflow()
    n, rng = sizes.matrix, np.random.default_rng(0)
    one, other = (tf.cast(rng.random((n, n), np.float32), tf.bfloat16) for _ in range(2))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(one, other)))
    float(product())
    seconds = min(_seconds(lambda: float(product())) for _ in range(10))
    return {"device": started.about["devices"][0], "flop_per_s": 2 * n**3 / seconds}


def step(sizes: Sizes, devices: str, precision: str, xla: str) -> dict[str, Any]:
    """The training step of the recipe, fed as `engine fit` feeds it."""
    from engine import runtime
    from engine.diagnostics.benchmark.arithmetic import step_flop

    recipe = _recipe(sizes)
    started = runtime.start(devices, precision, xla)
    tf = runtime.tensorflow()
    from engine.training.batches import Clock, feed
    from engine.training.state import TrainingState

    training, taken, waited = TrainingState(recipe, started), [], []
    with feed(_examples(recipe), recipe.examples_per_step, started.strategy) as fed:
        clock, before = Clock(fed), None
        for batch in fed.batches(0, sizes.steps + 3):
            learned = training.step(batch, tf.constant(1e-4))
            if before is not None:  # read while the device works on this step, as `fit` does
                float(before.loss)
            before = learned
            seconds, waited_s = clock.lap()
            taken.append(seconds)
            waited.append(waited_s)
    first_s, step_s = sum(taken[:3]), float(np.mean(taken[3:]))
    memory = None
    if tf.config.list_logical_devices("GPU"):
        memory = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    shape = (recipe.examples_per_step, *recipe.crop.shape, 1)
    return {
        "precision": precision, "xla": xla, "first_s": first_s, "step_s": step_s,
        "crops_per_s": recipe.examples_per_step / step_s, "memory_bytes": memory,
        "input_wait": sum(waited[3:]) / sum(taken[3:]),
        "flop_per_s": step_flop(training.model, shape) / step_s,
    }  # fmt: skip


def torch(sizes: Sizes, precision: str) -> dict[str, Any]:
    """The same network in PyTorch: a step on pairs that are on the device."""
    try:
        import torch as library
    except ImportError:
        return {"skipped": "PyTorch is not installed"}
    from engine import runtime
    from engine.diagnostics.benchmark.torch_network import TorchTraining

    runtime.start("cpu")  # builds the network; the card is PyTorch's
    recipe = _recipe(sizes)
    device = "cuda" if library.cuda.is_available() else "cpu"
    training = TorchTraining(recipe.network.build(), learning_rate=1e-4)
    for parameter in training._network.parameters:
        parameter.data = parameter.data.to(device)
    shape = (recipe.batch, 1, *recipe.crop.shape)
    clean, *images = (library.rand(shape, device=device) for _ in range(3))
    dtype = getattr(library, precision)
    lower = library.autocast(device, dtype, enabled=precision != "float32")

    def once() -> None:
        with lower:
            training.step(images, clean)

    for _ in range(2):
        once()
    step_s = float(np.median([_seconds(once) for _ in range(sizes.steps)]))
    memory = library.cuda.max_memory_allocated() if device == "cuda" else None
    return {
        "with": f"torch {library.__version__}", "device": device, "precision": precision,
        "step_s": step_s, "crops_per_s": recipe.batch / step_s, "memory_bytes": memory,
    }  # fmt: skip


def denoise(sizes: Sizes, devices: str) -> dict[str, Any]:
    """`engine denoise` from end to end, in two precisions."""
    from tests.gpu.denoise import main as timed

    words = ["--shape", sizes.scan, "--width", str(sizes.width), "--devices", devices]
    return {"rows": timed([*words, "--precision", "float32,bfloat16"])}


def resume(sizes: Sizes, devices: str, out: Path) -> dict[str, Any]:
    """A training that is killed and resumed, and one that is not."""
    from engine.checkpoints import checkpoint

    del sizes
    data, steps = out / "phantoms", 24
    _phantoms(data)
    found = []
    for name in ("whole", "killed"):
        words = ["respr_unet3d", *_TINY, "split.validation=1", "split.test=1"]
        words += ["validate_every=12", "checkpoint_every=4", "--steps", str(steps), "--fresh"]
        run = out / name
        process = _fit([*words, "--devices", devices], data, run)
        if name == "killed":
            while process.poll() is None and not checkpoint.steps(run / "checkpoints"):
                time.sleep(0.02)
            process.kill()
            process.wait()
            words.remove("--fresh")
            process = _fit([*words, "--devices", devices], data, run)
        code = process.wait()
        at = checkpoint.place(run / "checkpoints", steps)
        found.append(checkpoint.fingerprint(at) if code == 0 else f"exit code {code}")
    return {"whole": found[0], "resumed": found[1], "same_bits": found[0] == found[1]}


def _train(session: Session, data: Path | None, words: list[str]) -> None:
    """Trains until the time is over. The run folder holds weights and curves."""
    if data is None:
        data = session.out / "phantoms"
        _phantoms(data)
    run, limit_s = session.out / "run", session.left_s - _STOP_S
    if limit_s <= 0:
        session.results["training"] = {"skipped": "no time was left"}
        return session.save()
    process = _fit(words, data, run)
    with suppress(subprocess.TimeoutExpired):
        process.wait(limit_s)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    process.kill()
    session.results["training"] = {"exit_code": process.wait(), "run": run.name}
    return session.save()


def _fit(words: list[str], data: Path, run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "engine", "fit", *words, "--data", str(data), "--run"]
    return subprocess.Popen([*command, str(run), "-q"], stdout=subprocess.DEVNULL)


def _phantoms(data: Path) -> None:
    from engine.diagnostics.demo import write_phantoms

    if not data.exists():
        write_phantoms(data, 4, (12, 48, 48), 0)


def _recipe(sizes: Sizes) -> Any:
    from engine.recipe.overrides import override
    from engine.recipe.recipe_file import find_recipe, load_recipe

    return override(load_recipe(find_recipe("respr_unet3d")), sizes.words)


def _examples(recipe: Any) -> Any:
    from volumes.phantoms.abdomen import abdomen
    from volumes.sampling.examples import Examples
    from volumes.volume import Volume

    z, y, x = (2 * size for size in recipe.crop.shape)
    hu, spacing_mm = abdomen((z, y, x), rng=np.random.default_rng(0))
    volume = Volume(hu, spacing_mm, "phantom", "")
    return Examples([volume], recipe.crop, recipe.noise, recipe.prior, 0, recipe.objective.halo)


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs all parts, and returns their results; with --part, prints that of one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=600.0, help="of the whole")
    parser.add_argument("--data", type=Path, help="of the training; default: small phantoms")
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--small", action="store_true", help="small numbers, for a CPU")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help="of `engine fit`: recipe and overrides")
    given = parser.parse_args(arguments)
    sizes = SMALL if given.small else FULL
    if given.part is not None:
        return _one(given.part, sizes, given.devices, given.out)
    small = ["--small"] if given.small else []
    words = ["--out", str(given.out), "--devices", given.devices, *small]
    session = Session(given.out, given.seconds, words)
    peak = session.part("matrix", sizes.part_s).get("flop_per_s")
    for precision in _PRECISIONS:
        for xla in ("on", "off"):
            name = f"step {precision} {xla}"
            if peak and "flop_per_s" in (found := session.part(name, sizes.part_s)):
                found["share_of_matrix_product"] = found["flop_per_s"] / peak
                session.save()
    for precision in _PRECISIONS:
        session.part(f"torch {precision}", sizes.part_s)
    session.part("denoise", 2 * sizes.part_s)
    session.part("resume", 2 * sizes.part_s)
    if given.words:
        _train(session, given.data, given.words)
    return session.results


def _one(part: str, sizes: Sizes, devices: str, out: Path) -> dict[str, Any]:
    name, *how = part.split(" ")
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "matrix": lambda: matrix(sizes, devices),
        "step": lambda: step(sizes, devices, *how),
        "torch": lambda: torch(sizes, *how),
        "denoise": lambda: denoise(sizes, devices),
        "resume": lambda: resume(sizes, devices, out),
    }
    found = parts[name]()
    print(json.dumps(found), flush=True)
    return found


if __name__ == "__main__":
    main()
