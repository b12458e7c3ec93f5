"""Declared types: whether values from JSON have the types that a dataclass declares.

Python does not check them: a width of "8" would be multiplied, and a list called as a loss.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any


def refuse_misfits(kind: type, fields: Mapping[str, Any]) -> None:
    """Refuses values whose types differ from those that a dataclass declares.

    Raises:
        TypeError: naming the field.
    """
    hints = typing.get_type_hints(kind)
    for name, value in fields.items():
        if name not in hints:
            raise TypeError(f"{kind.__name__} has no field {name!r}")
        if not _fits(value, hints[name]):
            raise TypeError(f"{kind.__name__}.{name} cannot be {str(value)[:40]!r}")


def lacking(value: Any, protocol: type) -> list[str]:
    """The attributes of a protocol, such as `engine.networks.Network`, that a value does not have.

    Example:
        >>> from engine.networks import Network, UNet2D
        >>> lacking(UNet2D(), Network), lacking(5, Network)[:3]
        ([], ['build', 'stride', 'radius'])
    """
    called = ["__call__"] if "__call__" in vars(protocol) else []
    names = called + [name for name in vars(protocol) if not name.startswith("_")]
    return [name for name in names if not hasattr(value, name)]


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = parts[:1] * len(value) if parts[1:] == (Ellipsis,) else parts
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if getattr(hint, "_is_protocol", False):
        return not lacking(value, hint)
    return isinstance(value, hint) if isinstance(hint, type) else callable(value)
