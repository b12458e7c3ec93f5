"""The record of a run, run.json: what it has learned from, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import Mismatch
from volumes.storage import json_files

NAME = "run.json"
_MOST_BYTES = 64 * 2**20  # it names every case: a set of pairs may have many thousands


@dataclass(frozen=True)
class RunRecord:
    """What run.json says, read once a command and handed on.

    Attributes:
        content: of the file; empty where there is none, or it is not what a run writes.
    """

    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cases(self) -> Mapping[str, Mapping[str, str]]:
        """The sha256 of each case by its name, by side of the split."""
        cases: Mapping[str, Mapping[str, str]] = self.content.get("cases", {})
        return cases

    @property
    def recordings(self) -> Mapping[str, str]:
        """The sha256 of each noisy recording by the name of its case."""
        recordings: Mapping[str, str] = self.content.get("recordings", {})
        return recordings

    @property
    def changes(self) -> list[dict[str, Any]]:
        """The changes that were accepted so far, and from which step on, oldest first."""
        return list(self.content.get("changes", []))

    @property
    def recipes(self) -> list[str]:
        """Fingerprints of the recipes that it was trained by, the last one last."""
        known = self.content.get("recipes", [])
        return known if isinstance(known, list) else []

    @property
    def started_from(self) -> Mapping[str, Any] | None:
        """The run whose weights it started from."""
        return self.content.get("started_from")

    @property
    def saved(self) -> bool:
        """Whether it has ever had a checkpoint."""
        return bool(self.content.get("saved"))

    @property
    def learned_from(self) -> dict[str, str]:
        """The names of the cases that its weights have learned from, by the sha256 of their files.

        Those of the runs that it was started from are among them, and those that it had before its
        cases were changed.
        """
        before: dict[str, str] = dict((self.started_from or {}).get("trained_on", {}))
        for change in self.changes:
            before |= change["learned_from"]
        training = self.cases.get("training", {})
        return {**before, **{sha256: name for name, sha256 in training.items()}}

    @property
    def tells_what_it_learned_from(self) -> bool:
        """Whether its cases are known, and those of the runs that it was started from."""
        before = self.started_from
        known = bool(self.cases.get("training"))
        return known and (before is None or bool(before.get("trained_on")))


def read_record(folder: Path) -> RunRecord:
    """The record of a run folder; empty where there is none, or it is damaged."""
    try:
        content = _read(folder)
    except (OSError, ValueError):
        return RunRecord()
    return RunRecord(content) if _is_record(content) else RunRecord()


def required_record(folder: Path) -> RunRecord:
    """The record of a run that has been trained: what it has learned from stands there alone.

    Raises:
        Mismatch: where it is damaged or gone.
    """
    path, remedy = folder / NAME, "Bring it back, or start anew with --fresh"
    try:
        content = _read(folder)
    except OSError as error:
        cause = f"cannot be read ({error.strerror or error}), and tells what the run has seen"
        raise Mismatch(path, cause, remedy) from error
    except ValueError as error:
        cause = f"is damaged ({error}), and tells what the run has seen"
        raise Mismatch(path, cause, remedy) from error
    if not _is_record(content) or "cases" not in content:
        raise Mismatch(path, "does not tell what the run has seen", remedy)
    return RunRecord(content)


def _read(folder: Path) -> Any:
    return json_files.read_json(folder / NAME, most_bytes=_MOST_BYTES)


def _is_record(content: Any) -> bool:
    """Whether the file holds what a run writes, as far as it is relied on."""
    if not isinstance(content, dict):
        return False
    parts = [content.get("cases", {}), content.get("recordings", {})]
    parts.append(content.get("started_from") or {})
    if not all(isinstance(part, dict) for part in parts):
        return False
    return all(isinstance(part, dict) for part in parts[0].values())
