"""Errors of the engine for users, with the exit codes of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from volumes.errors import BadInput, CannotWrite, DiskFull, Refusal

__all__ = [
    "BadInput",
    "BadUsage",
    "CannotWrite",
    "Damaged",
    "DiskFull",
    "Interrupted",
    "Locked",
    "Mismatch",
    "NumericalFailure",
    "OutOfMemory",
    "PeerLost",
    "Refusal",
]


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """The remedy for an unknown name: the known one that is most like it, else another remedy.

    Example:
        >>> did_you_mean("unet3e", ["unet3d", "dncnn"], "Give a path")
        'Did you mean unet3d?'
    """
    near = difflib.get_close_matches(word, list(known), 1)
    return f"Did you mean {near[0]}?" if near else otherwise


class BadUsage(Refusal):
    """A command with invalid or contradictory options."""

    exit_code = 2


class Mismatch(Refusal):
    """A run, recipe or checkpoint that is damaged or does not fit the request."""

    exit_code = 5


class Damaged(Mismatch):
    """A checkpoint that differs from what was written."""


class NumericalFailure(Refusal):
    """A training with NaN or infinite values."""

    exit_code = 6


class OutOfMemory(Refusal):
    """The machine or the accelerator does not have enough memory."""

    exit_code = 7


class Locked(Refusal):
    """A run folder that another process is using."""

    exit_code = 8


class Interrupted(Refusal):
    """A run that was stopped on request, after it saved a checkpoint."""

    exit_code = 75


class PeerLost(Refusal):
    """A process of a training on several machines that has died or did not start."""

    exit_code = 75
