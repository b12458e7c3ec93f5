import shutil
from pathlib import Path

import pytest

from engine import runtime

ROOT = Path(runtime.__file__).parents[1]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The folder of a copy of the program, which is taken for it."""
    for package in ("engine", "volumes"):
        shutil.copytree(ROOT / package, tmp_path / package)
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "engine" / "runtime.py"))
    runtime.code_sha256.cache_clear()
    yield tmp_path
    runtime.code_sha256.cache_clear()


def test_another_byte_of_the_program_is_another_program(copied):
    whole = runtime.code_sha256()
    for name in ("volumes/padding.py", "engine/networks/unet.py"):
        runtime.code_sha256.cache_clear()
        assert runtime.code_sha256() == whole
        with open(copied / name, "a") as file:
            file.write("#")
        runtime.code_sha256.cache_clear()
        assert runtime.code_sha256() != whole
        whole = runtime.code_sha256()


def test_a_file_of_another_name_is_another_program(copied):
    whole = runtime.code_sha256()
    (copied / "volumes" / "window.py").rename(copied / "volumes" / "windows.py")
    runtime.code_sha256.cache_clear()
    assert runtime.code_sha256() != whole


def test_a_program_without_its_files_has_no_hash(tmp_path, monkeypatch, copied):
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "none" / "engine" / "x.py"))
    runtime.code_sha256.cache_clear()
    assert runtime.code_sha256() is None
