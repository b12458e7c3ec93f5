import shutil
from pathlib import Path

import pytest

from engine import provenance

ROOT = Path(provenance.__file__).parents[1]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The folder of a copy of the program, which is taken for it."""
    for package in ("engine", "volumes"):
        shutil.copytree(ROOT / package, tmp_path / package)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "engine" / "provenance.py"))
    provenance.code.cache_clear()
    yield tmp_path
    provenance.code.cache_clear()


def test_another_byte_of_the_program_is_another_program(copied):
    whole = provenance.code()
    for name in ("volumes/padding.py", "engine/networks/unet.py"):
        provenance.code.cache_clear()
        assert provenance.code() == whole
        with open(copied / name, "a") as file:
            file.write("#")
        provenance.code.cache_clear()
        assert provenance.code() != whole
        whole = provenance.code()


def test_a_file_of_another_name_is_another_program(copied):
    whole = provenance.code()
    (copied / "volumes" / "window.py").rename(copied / "volumes" / "windows.py")
    provenance.code.cache_clear()
    assert provenance.code() != whole


def test_a_program_without_its_files_has_no_hash(tmp_path, monkeypatch, copied):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "none" / "engine" / "x.py"))
    provenance.code.cache_clear()
    assert provenance.code() is None
