"""The examples of docstrings, run as they stand."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("engine", "volumes")
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>>" in path.read_text()
]


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """The folder that the examples of the Python API run in: phantoms, and a run of two steps."""
    import engine

    folder = tmp_path_factory.mktemp("examples")
    engine.phantom(folder / "phantoms", cases=4, shape=(12, 48, 48))
    changes = ["crop.shape=8,16,16", "network.width=2", "batch=1", "split.validation=1",
               "split.test=1", "validate_slices=2"]  # fmt: skip
    engine.fit("unet3d", changes, data=folder / "phantoms", run=folder / "runs" / "unet3d", steps=2)
    return folder


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_print_what_they_say(cpu, request, monkeypatch, module):
    if module.startswith("engine.api."):
        monkeypatch.chdir(request.getfixturevalue("place"))
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0


def test_what_a_recipe_is_made_of_has_an_example():
    import engine
    import volumes
    from engine import losses, networks, schedules

    recipes = [engine.Recipe, *(getattr(volumes, name) for name in volumes.__all__)]
    made = [getattr(networks, name) for name in networks.__all__ if name != "Network"]
    rates = [schedules.constant, schedules.cosine, schedules.piecewise, schedules.warm_up]
    errors = [losses.mean_squared_error, losses.mean_absolute_error]
    without = [
        thing.__name__
        for thing in (*recipes, *made, *rates, *errors)
        if ">>>" not in (thing.__doc__ or "")
    ]
    assert without == []
