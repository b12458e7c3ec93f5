"""Refusals of the engine: what it says when it cannot or must not go on."""

from __future__ import annotations

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
    "Refusal",
]


class BadUsage(Refusal):
    """A command that cannot be meant as it stands."""

    exit_code = 2


class Mismatch(Refusal):
    """A run, recipe or checkpoint that does not fit what is asked of it, or is damaged."""

    exit_code = 5


class Damaged(Mismatch):
    """A checkpoint whose bytes are not those that were written."""


class NumericalFailure(Refusal):
    """A training whose numbers have left the finite."""

    exit_code = 6


class OutOfMemory(Refusal):
    """More memory is needed than the machine or the accelerator has."""

    exit_code = 7


class Locked(Refusal):
    """A run folder that another process is writing."""

    exit_code = 8


class Interrupted(Refusal):
    """A run that was asked to stop, and did so with a checkpoint."""

    exit_code = 75
