"""What the engine's tests share; each run is made once a session and never written to."""

from pathlib import Path

import numpy as np
import pytest

from tests.engine.tiny import identity, shrinking, tiny, untrained
from volumes.volume import Volume


@pytest.fixture(scope="session")
def tf(cpu):
    """TensorFlow, as the runtime has settled it."""
    import tensorflow

    return tensorflow


@pytest.fixture(scope="session")
def volume(phantom_hu: np.ndarray) -> Volume:
    """The small phantom as a volume."""
    return Volume(phantom_hu, (3.0, 0.8, 0.7), "phantom", "0" * 64)


@pytest.fixture(scope="session")
def trained(cpu, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 4 steps, saved at 2 and 4 and validated at 4."""
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("runs") / "trained"
    assert run(["fit", "unet3d", *shrinking(), "--data", str(dataset), "--run", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def unet_run(cpu, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network does not see a prior and has never learned."""
    return untrained(tmp_path_factory.mktemp("runs") / "unet", tiny(), cpu).folder


@pytest.fixture(scope="session")
def respr_run(cpu, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network returns its prior, because its head is zero."""

    def silent(arrays):
        return {name: array * 0 if "/head/" in name else array for name, array in arrays.items()}

    folder = tmp_path_factory.mktemp("runs") / "respr"
    return untrained(folder, tiny("respr_unet3d"), cpu, silent).folder


@pytest.fixture(scope="session")
def identity_run(cpu, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network returns what it is given, and 0 where that is negative."""
    recipe = tiny("unet3d", "network.width=1", "network.levels=1")
    return untrained(tmp_path_factory.mktemp("runs") / "identity", recipe, cpu, identity).folder
