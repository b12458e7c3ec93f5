from pathlib import Path

import pytest

from engine.diagnostics.benchmark.case import Case


@pytest.fixture(scope="session")
def case(cpu, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A scan whose tiles are cut along every axis, and a 3D U-Net of width 2."""
    written: Path = tmp_path_factory.mktemp("bench")
    return Case.written(written, (16, 64, 64), 2)
