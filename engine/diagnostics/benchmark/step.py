"""Benchmark of the training step: ours against `keras.Model.fit` and PyTorch, on the same network.

They take turns in one process, so that a drift of the machine's speed affects all. Medians are
compared. `fit` without the engine's environment variables runs in a process of its own. The rate of
the arithmetic is compared with that of a matrix product in the same rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any, Protocol

import numpy as np

from engine import runtime
from engine.diagnostics.benchmark import machine, packages
from engine.diagnostics.benchmark.arithmetic import MatrixProduct, step_flop
from engine.diagnostics.benchmark.step_profile import seconds_of_kinds
from engine.diagnostics.benchmark.torch_network import TorchTraining
from engine.recipe.overrides import override
from engine.recipe.recipe import Recipe
from engine.recipe.recipe_file import find_recipe, load_recipe
from engine.report.markdown import grid
from engine.terminal import Terminal
from volumes import random_draws

_SMALL = ("crop.shape=16,64,64", "network.width=16")
_SHOWN = 0.005  # of the whole; kinds with less are shown together
_UNSET = ("TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL")


def compare(steps: int, rounds: int, terminal: Terminal) -> None:
    """Prints seconds a step, ratios and the rate of the arithmetic.

    A ratio above 1 means that the engine is faster.

    Args:
        steps: of each side in a round.
        rounds: number of turns of each side.
        terminal: for the table.
    """
    recipe = override(load_recipe(find_recipe("respr_unet3d")), _SMALL)
    sides: dict[str, _Side] = {"engine": _Ours(recipe), "fit": _Fit(recipe, jit_compile=False)}
    if packages.package("torch") is not None:
        sides["torch"] = _Torch(recipe)
    product, products = MatrixProduct(), list[float]()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        products.append(product.flop_per_s())
        for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
            seconds[name].append(sides[name].seconds(steps))
    bare, without = _apart(steps, rounds), _apart(steps, rounds, onednn="0")
    ratios = {
        name: [b / a for a, b in zip(seconds["engine"], taken, strict=True)]
        for name, taken in seconds.items()
    }
    ratio, median = ratios["fit"], float(np.median(seconds["engine"]))
    flop = step_flop(recipe.network.build(), (recipe.batch, *recipe.crop.shape, 1))

    def row(name: str, step_s: float, relative: float) -> list[str]:
        rate = f"{flop / step_s / 1e9:.0f}"
        return [name, f"{step_s:.3f}", f"{relative:.2f}", rate]

    def in_turn(name: str, title: str) -> list[str]:
        return row(title, float(np.median(seconds[name])), float(np.median(ratios[name])))

    rows = [
        row("the engine's step", median, 1),
        in_turn("fit", "keras fit, oneDNN, graph"),
        row("keras fit, nothing set", bare, bare / median),
        row("keras fit, oneDNN off", without, without / median),
        *([in_turn("torch", "PyTorch, eager")] if "torch" in sides else []),
    ]
    title = f"{recipe.network}, crop {recipe.crop.shape}, batch {recipe.batch}"
    terminal.table(title, ["", "s / step", "time / ours", "GFLOP/s"], rows)
    spread = f"{min(ratio):.2f} to {max(ratio):.2f}"
    terminal.result(f"{rounds} rounds of {steps} steps, ratio to fit in single rounds: {spread}")
    shares = [flop / s / p for s, p in zip(seconds["engine"], products, strict=True)]
    terminal.result(
        f"The engine's step does {flop / 1e9:.1f} GFLOP, at {np.median(shares):.0%} "
        f"({min(shares):.0%} to {max(shares):.0%}) of the rate of a float32 matrix product: "
        f"{np.median(products) / 1e9:.0f} GFLOP/s"
    )


def profile(steps: int, terminal: Terminal) -> None:
    """Prints the share of each kind of operation in the engine's step, as a table in Markdown.

    Args:
        steps: that are profiled.
        terminal: for the table.
    """
    recipe = override(load_recipe(find_recipe("respr_unet3d")), _SMALL)
    ours = _Ours(recipe)
    found = seconds_of_kinds(lambda: ours.seconds(steps))
    total = sum(found.values())
    rows = [
        [kind, f"{1000 * taken / steps:.1f}", f"{taken / total:.1%}"]
        for kind, taken in found.items()
        if taken >= _SHOWN * total
    ]
    rest = total - sum(taken for taken in found.values() if taken >= _SHOWN * total)
    rows.append(["others", f"{1000 * rest / steps:.1f}", f"{rest / total:.1%}"])
    terminal.result(f"{recipe.network}, crop {recipe.crop.shape}, batch {recipe.batch}; "
                    f"{machine.kind()}")  # fmt: skip
    terminal.result("\n" + grid((["operation of the step", "ms", "share"], rows)))


class _Side(Protocol):
    def seconds(self, steps: int) -> float: ...


class _Ours:
    """The training step of `engine fit`: reads crops, makes noise and prior in every step."""

    def __init__(self, recipe: Recipe) -> None:
        started = runtime.start("cpu")
        from engine.training.state import TrainingState

        self._strategy = started.strategy
        self._training = TrainingState(recipe, started)
        self._examples = _examples(recipe)
        self._batch = recipe.batch
        self.seconds(2)  # traces

    def seconds(self, steps: int) -> float:
        """Seconds a step."""
        import tensorflow as tf

        from engine.training.batches import feed

        with feed(self._examples, self._batch, self._strategy) as fed:
            begun = time.perf_counter()
            for batch in fed.batches(0, steps):
                loss, *_ = self._training.step(batch, tf.constant(1e-4))
                float(loss)
            return (time.perf_counter() - begun) / steps


class _Fit:
    """The same network with `compile` and `fit`, on training pairs in memory."""

    def __init__(self, recipe: Recipe, jit_compile: bool | str) -> None:
        import keras

        self._model = recipe.network.build()
        self._model.compile(keras.optimizers.Adam(1e-4), "mse", jit_compile=jit_compile)
        self._batch = recipe.batch
        rng = random_draws.rng(0, "bench")
        shape = (recipe.batch * 4, *recipe.crop.shape, 1)
        self._images = [rng.random(shape, np.float32) for _ in range(2)]
        self._clean = rng.random(shape, np.float32)
        self.seconds(2)

    def seconds(self, steps: int) -> float:
        """Seconds a step."""
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices((tuple(self._images), self._clean))
        data = data.batch(self._batch).repeat().take(steps).prefetch(2)
        begun = time.perf_counter()
        self._model.fit(data, verbose=0, shuffle=False)
        return (time.perf_counter() - begun) / steps


class _Torch:
    """The same network in PyTorch, with a loop written by hand, on training pairs in memory."""

    def __init__(self, recipe: Recipe) -> None:
        torch = packages.package("torch")
        self._training = TorchTraining(recipe.network.build(), learning_rate=1e-4)
        rng = random_draws.rng(0, "bench")
        shape = (recipe.batch, 1, *recipe.crop.shape)
        self._images = [torch.from_numpy(rng.random(shape, np.float32)) for _ in range(2)]
        self._clean = torch.from_numpy(rng.random(shape, np.float32))
        self.seconds(2)

    def seconds(self, steps: int) -> float:
        """Seconds a step."""
        begun = time.perf_counter()
        for _ in range(steps):
            self._training.step(self._images, self._clean)
        return (time.perf_counter() - begun) / steps


def _examples(recipe: Recipe) -> Any:
    from volumes.phantoms.abdomen import abdomen
    from volumes.sampling.examples import Examples
    from volumes.volume import Volume

    hu, spacing_mm = abdomen((24, 128, 128), rng=random_draws.rng(0, "phantom", 0))
    volume = Volume(hu, spacing_mm, "phantom", "")
    return Examples([volume], recipe.crop, recipe.noise, recipe.prior, 0, recipe.objective.halo)


def _apart(steps: int, rounds: int, onednn: str | None = None) -> float:
    """Median seconds a step of `fit` in a process without the engine's environment variables.

    If `onednn` is None, TensorFlow decides: on for some processors, off for others.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _UNSET}
    if onednn is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = onednn
    command = [sys.executable, "-m", "engine.diagnostics.benchmark.step", str(steps), str(rounds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _as_found(steps: int, rounds: int) -> None:
    recipe = override(load_recipe(find_recipe("respr_unet3d")), _SMALL)
    found = _Fit(recipe, jit_compile="auto")
    print(json.dumps(float(np.median([found.seconds(steps) for _ in range(rounds)]))))


if __name__ == "__main__":
    _as_found(int(sys.argv[1]), int(sys.argv[2]))
