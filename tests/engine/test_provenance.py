import shutil
from pathlib import Path

from engine import provenance

ROOT = Path(provenance.__file__).parents[1]


def test_another_byte_of_the_program_is_another_program(tmp_path, monkeypatch):
    for package in ("engine", "volumes"):
        shutil.copytree(ROOT / package, tmp_path / package)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "engine" / "provenance.py"))
    whole = provenance.code()
    for name in ("volumes/padding.py", "engine/networks/unet.py"):
        provenance.code.cache_clear()
        assert provenance.code() == whole
        with open(tmp_path / name, "a") as file:
            file.write("#")
        provenance.code.cache_clear()
        assert provenance.code() != whole
        whole = provenance.code()
    provenance.code.cache_clear()
