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


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_print_what_they_say(cpu, module):
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
