"""The packages that the benchmarks compare with. They are optional."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

_TITLES = {"torch": "PyTorch", "monai": "MONAI", "torchio": "TorchIO"}


@cache
def package(name: str) -> Any:
    """The module; None if it is not installed, or cannot be imported."""
    # PyTorch's threads would spin while they wait, and so count the time that others take.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with suppress(ImportError, OSError):
        return import_module(name)
    return None


def missing(*names: str) -> list[str]:
    """The titles of those packages that are not there."""
    return [_TITLES[name] for name in names if package(name) is None]


def versions(*names: str) -> list[str]:
    """The titles of those packages that are there, with their versions."""
    return [f"{_TITLES[name]} {version(name)}" for name in names if package(name) is not None]
