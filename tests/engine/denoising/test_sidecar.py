import shutil
from pathlib import Path

import pytest

from engine.denoising import sidecar

ROOT = Path(sidecar.__file__).parents[2]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The folder of a copy of the program, which is taken for it."""
    for package in ("engine", "volumes"):
        shutil.copytree(ROOT / package, tmp_path / package)
    monkeypatch.setattr(sidecar, "__file__", str(tmp_path / "engine" / "provenance.py"))
    sidecar.code.cache_clear()
    yield tmp_path
    sidecar.code.cache_clear()


def test_another_byte_of_the_program_is_another_program(copied):
    whole = sidecar.code()
    for name in ("volumes/padding.py", "engine/networks/unet.py"):
        sidecar.code.cache_clear()
        assert sidecar.code() == whole
        with open(copied / name, "a") as file:
            file.write("#")
        sidecar.code.cache_clear()
        assert sidecar.code() != whole
        whole = sidecar.code()


def test_a_file_of_another_name_is_another_program(copied):
    whole = sidecar.code()
    (copied / "volumes" / "window.py").rename(copied / "volumes" / "windows.py")
    sidecar.code.cache_clear()
    assert sidecar.code() != whole


def test_a_program_without_its_files_has_no_hash(tmp_path, monkeypatch, copied):
    monkeypatch.setattr(sidecar, "__file__", str(tmp_path / "none" / "engine" / "x.py"))
    sidecar.code.cache_clear()
    assert sidecar.code() is None
