"""Bad scans through the command line, mutated headers, mutated gzip streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.gates.catalogue import File, files
from tests.gates.commands import Commands
from volumes.nifti import open_scan
from volumes.nifti.read_options import ReadOptions

CATALOGUE = files()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose checkpoint is whole, and fits no network: none is built here."""
    from engine.checkpoints import checkpoint
    from engine.checkpoints.checkpoint import Progress
    from engine.recipe.recipe_file import find_recipe
    from engine.runs.training_run import TrainingRun
    from tests.engine.tiny import tiny

    made = TrainingRun(tmp_path_factory.mktemp("runs") / "run")
    made.folder.mkdir(parents=True)
    made.begin(tiny(), find_recipe("unet3d"), {"cases": {}})
    checkpoint.save(made.checkpoints, {"model/nothing": np.zeros(1, np.float32)}, Progress(1))
    return made.folder


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("said")
    with Commands(folder, memory_bytes=2**30, seconds=20) as started:
        yield started


def _trust(flags: tuple[str, ...]) -> ReadOptions:
    given: dict[str, str] = dict(zip(flags, (*flags[1:], ""), strict=False))
    volume = given.get("--volume")
    return ReadOptions(
        hu="--assume-hu" in given,
        checksum="--allow-bad-crc" in given,
        gib=float(given.get("--max-gib") or 4),
        volume=None if volume is None else int(volume),
        axes=given.get("--axes"),
    )


@pytest.mark.gate("G7")
@pytest.mark.parametrize("file", [f for f in CATALOGUE if not f.taken], ids=lambda f: f.name)
def test_a_bad_file_is_refused_in_one_line_and_leaves_nothing(
    file: File, run: Path, commands: Commands, tmp_path: Path
) -> None:
    path = file.make(tmp_path)
    before = sorted(tmp_path.iterdir())
    found = commands.run(["denoise", "-m", run, *file.flags, "--", path])
    assert found.code == 3, found
    assert not found.tensorflow
    assert found.out == ""
    (line,) = found.err.splitlines()
    assert line.startswith("engine: error: ")
    assert file.says in line
    # Of a pair either half may be at fault. What breaks a line is told as a space.
    told = str(path).encode(errors="backslashreplace").decode()
    told = "".join(c if c.isprintable() else " " for c in told)
    assert told in line or str(path.with_suffix("")) in line
    assert len(line) <= 300 or len(str(path)) > 150
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.gate("G7")
@pytest.mark.parametrize("file", [f for f in CATALOGUE if f.taken], ids=lambda f: f.name)
def test_an_odd_file_is_read_correctly_with_a_warning(
    file: File, run: Path, commands: Commands, tmp_path: Path
) -> None:
    path = file.make(tmp_path)
    flags = [flag for flag in file.flags if flag != "--assume-hu"]
    found = commands.run(["info", *flags, "--", path])
    assert found.code == 0, found
    assert not found.tensorflow
    assert found.err == ""
    warnings = [line for line in found.out.splitlines() if line.startswith("warning ")]
    assert bool(warnings) == bool(file.says)
    assert not file.says or file.says in " ".join(warnings)
    scan = open_scan(path, _trust(file.flags)).verified()
    hu = scan.canonical(scan.hu(scan.read()))
    np.testing.assert_array_equal(hu, np.asarray(file.hu, np.float32).reshape(scan.shape))
    if file.known:
        np.testing.assert_array_equal(hu, _by_nibabel(path))


def _by_nibabel(path: Path) -> np.ndarray:
    image = nib.as_closest_canonical(nib.load(path))
    right_anterior_superior = np.asarray(image.dataobj, np.float32)
    return right_anterior_superior[::-1, ::-1, ::-1].transpose(2, 1, 0)
