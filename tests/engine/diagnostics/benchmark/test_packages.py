import pytest

from engine.diagnostics.benchmark import packages


@pytest.fixture(autouse=True)
def _asked_anew():
    packages.package.cache_clear()
    yield
    packages.package.cache_clear()


def test_a_package_that_cannot_be_imported_counts_as_missing(monkeypatch):
    def broken(name):
        raise OSError(f"lib{name}.so: cannot open shared object file")

    monkeypatch.setattr(packages, "import_module", broken)
    assert packages.missing("torch", "monai", "torchio") == ["PyTorch", "MONAI", "TorchIO"]
    assert packages.versions("torch", "monai", "torchio") == []


def test_a_package_that_is_there_has_its_version(monkeypatch):
    monkeypatch.setattr(packages, "import_module", lambda name: name)
    monkeypatch.setattr(packages, "version", lambda name: "1.2")
    assert packages.missing("torch") == []
    assert packages.versions("torch", "monai") == ["PyTorch 1.2", "MONAI 1.2"]
