"""What every test may use; TensorFlow is imported for the tests that ask for `cpu` alone."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from volumes import nifti
from volumes.phantoms.abdomen import abdomen

pytest_plugins = ("tests.gates.ledger",)

# As the command line sets it: TensorFlow's own messages are not what tests compare.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests never touch the user's store."""
    os.environ["ENGINE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("ENGINE_DATA", None)


@pytest.fixture(scope="session")
def cpu():
    """The runtime of this process: one CPU device. Two device layouts need two processes."""
    from engine import runtime

    return runtime.start("cpu")


@pytest.fixture(scope="session")
def phantom_hu() -> np.ndarray:
    """(12, 64, 64) int16 HU of one small phantom; do not write to it."""
    hu, _ = abdomen((12, 64, 64), rng=np.random.default_rng(0))
    hu.setflags(write=False)
    return hu


@pytest.fixture
def phantom_file(tmp_path: Path, phantom_hu: np.ndarray) -> Path:
    """A small phantom as a NIfTI file in KiTS19's axis order."""
    path = tmp_path / "phantom.nii.gz"
    nifti.write_hu(path, phantom_hu, (3.0, 0.8, 0.7))
    return path


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small phantoms in KiTS19's layout."""
    folder = tmp_path_factory.mktemp("dataset")
    for i in range(4):
        hu, spacing_mm = abdomen((12, 48, 48), rng=np.random.default_rng(i))
        case = folder / f"case_{i:05d}"
        case.mkdir()
        nifti.write_hu(case / "imaging.nii.gz", hu, spacing_mm)
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat folder of four grey PNG files of differing shapes: smooth shades with edges."""
    folder = tmp_path_factory.mktemp("photographs")
    for i in range(4):
        y, x = np.mgrid[: 24 + i, :32]
        grey = 4 * x + 60 * ((x - 16) ** 2 + (y - 12) ** 2 < 20 * (i + 1)) + 5 * i
        Image.fromarray(grey.astype(np.uint8)).save(folder / f"test_{i:03d}.png")
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 5 + 2 pairs of 24 x 32 in a file: a shade with an edge, and the same under noise."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("pairs") / "pairs.npz"
    arrays = {}
    for side, count in (("train", 5), ("test", 2)):
        clean = np.linspace(0.1, 0.7, 32) + 0.2 * rng.random((count, 1, 1))  # no two the same
        clean = np.broadcast_to(clean, (count, 24, 32)).copy()
        clean[:, 8:16, 4:20] += 0.1
        arrays[f"{side}_gt"] = clean
        arrays[f"{side}_ns"] = clean + 0.1 * rng.standard_normal(clean.shape)
    np.savez(path, **{name: array.astype(np.float32) for name, array in arrays.items()})
    return path


@pytest.fixture
def engine(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process: (exit code, stdout, stderr)."""
    from engine.cli.main import run

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return call


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The folder of real CT volumes in KiTS19's layout."""
    root = os.environ.get("ENGINE_REAL_CT")
    if not root:
        pytest.skip("ENGINE_REAL_CT names no folder of real CT volumes")
    return Path(root) / "ct"
