"""The case of the benchmark of denoising: a noisy phantom, and a network that never learned.

Both are files, so that a process of its own can measure the memory of one way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from engine import runtime
from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.recipe.overrides import override
from engine.recipe.recipe_file import find_recipe, load_recipe
from engine.runs.trained_model import Model, open_model
from engine.runs.training_run import TrainingRun
from volumes import nifti, random_draws
from volumes.phantoms.abdomen import abdomen
from volumes.tiles import padded
from volumes.volume import Shape, Unit

_RECIPE = "unet3d"
_NO_TRAINING = ("crop.shape=8,16,16", "batch=1", "split.validation=1", "split.test=1")


@dataclass(frozen=True)
class Case:
    """A scan and a run in one folder.

    Attributes:
        folder: of the files.
    """

    folder: Path

    @classmethod
    def written(cls, folder: Path, shape: Shape, width: int) -> Case:
        """A case of this shape, whose network has this width."""
        from engine.training.state import TrainingState

        recipe = override(
            load_recipe(find_recipe(_RECIPE)), (*_NO_TRAINING, f"network.width={width}")
        )
        case, rng = cls(folder), random_draws.rng(0, "bench")
        hu, spacing_mm = abdomen(shape, rng=random_draws.rng(0, "phantom", 0))
        sigma_hu = recipe.noise.typical * recipe.window.width_hu
        noisy = hu + sigma_hu * rng.standard_normal(shape, np.float32)
        nifti.write_hu(case.scan, np.rint(noisy).astype(np.int16), spacing_mm)
        arrays = TrainingState(recipe, runtime.start("cpu")).arrays()
        case.run.folder.mkdir()
        case.run.begin(recipe, None, {"cases": {}})
        checkpoint.save(case.run.checkpoints, arrays, Progress(1))
        return case

    @property
    def scan(self) -> Path:
        """The noisy scan, compressed."""
        return self.folder / "scan.nii.gz"

    @property
    def run(self) -> TrainingRun:
        """The run of the network."""
        return TrainingRun(self.folder / "run")

    @cached_property
    def model(self) -> Model:
        """The network of the run."""
        return open_model(self.run, "last")

    @cached_property
    def network(self) -> Any:
        """The Keras model."""
        runtime.start("cpu")
        return self.model.network()

    @cached_property
    def image(self) -> Unit:
        """The scan as the network sees it, (Z, Y, X) in window units."""
        low, high = self.model.recipe.noise.bounds
        unit = self.model.recipe.window.unit(nifti.open_scan(self.scan).read_hu())
        return np.asarray(np.clip(unit, low, high), np.float32)

    @property
    def tile(self) -> Shape:
        """Half of the scan along every axis, for the ways that cut it into tiles."""
        z, y, x = self.image.shape
        return padded((-(-z // 2), -(-y // 2), -(-x // 2)), self.model.recipe.network.stride)

    @property
    def tile_text(self) -> str:
        """Such as "32 x 128 x 128"."""
        return " x ".join(map(str, self.tile))

    def apart_hu(self, estimate: Unit, other: Unit) -> float:
        """The largest difference of two estimates in HU."""
        return float(np.abs(estimate - other).max()) * self.model.recipe.window.width_hu
