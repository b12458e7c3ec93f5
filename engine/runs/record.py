"""The record of a run, run.json: its cases, and how it was trained."""

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
    """The content of run.json, read once per command.

    Attributes:
        content: of the file; empty if it is missing or is not a run record.
    """

    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cases(self) -> Mapping[str, Mapping[str, str]]:
        """SHA-256 of each case by its name, by side of the split."""
        cases: Mapping[str, Mapping[str, str]] = self.content.get("cases", {})
        return cases

    @property
    def recordings(self) -> Mapping[str, str]:
        """SHA-256 of each noisy recording by the name of its case."""
        recordings: Mapping[str, str] = self.content.get("recordings", {})
        return recordings

    @property
    def voxels(self) -> Mapping[str, str]:
        """SHA-256 of the voxels of each case by its name; empty in runs of earlier versions."""
        voxels: Mapping[str, str] = self.content.get("voxels", {})
        return voxels

    @property
    def tops(self) -> tuple[tuple[str, int], ...]:
        """The top of the scale of its grey values by datatype; empty for scans."""
        tops = self.content.get("grey_values", {})
        return tuple((name, top) for name, top in tops.items() if isinstance(top, int) and top > 0)

    @property
    def changes(self) -> list[dict[str, Any]]:
        """The accepted changes, each with its first step, oldest first."""
        return list(self.content.get("changes", []))

    @property
    def recipes(self) -> list[str]:
        """Fingerprints of the recipes of the run, the current one last."""
        known = self.content.get("recipes", [])
        return known if isinstance(known, list) else []

    @property
    def command(self) -> list[str]:
        """The words of the command that began or resumed the run last."""
        words = self.content.get("command", [])
        return [str(word) for word in words] if isinstance(words, list) else []

    @property
    def own_settings(self) -> Mapping[str, Mapping[str, Any]] | None:
        """Values of the fields in which the run differs from its recipe file: `file` and `run`.

        None if it does not record them, as in earlier versions.
        """
        own = self.content.get("own_settings")
        if not isinstance(own, dict):
            return None
        formed = all(isinstance(v, dict) and set(v) == {"file", "run"} for v in own.values())
        return own if formed else None

    @property
    def names_tell(self) -> bool:
        """Whether a scan with the name of one of its cases is taken for that case.

        Not with imported weights: they are used beside other data, where case_00001 is another
        scan. Then only the content of a scan counts.
        """
        return "imported_from" not in self.content or not self.voxels

    @property
    def started_from(self) -> Mapping[str, Any] | None:
        """The initial weights, as in `engine.runs.initial_weights`; None if there are none."""
        return self.content.get("started_from")

    @property
    def saved(self) -> bool:
        """Whether the run has ever had a checkpoint."""
        return bool(self.content.get("saved"))

    @property
    def learned_from(self) -> dict[str, str]:
        """Names of the cases that its weights learned from, by the SHA-256 of files and of voxels.

        They include the cases of the runs that it was started from, and its own cases before they
        were changed.
        """
        before: dict[str, str] = dict((self.started_from or {}).get("trained_on", {}))
        for change in self.changes:
            before |= change["learned_from"]
        training = self.cases.get("training", {})
        files = {sha256: name for name, sha256 in training.items()}
        voxels = {self.voxels[name]: name for name in training if name in self.voxels}
        return before | files | voxels

    @property
    def tells_what_it_learned_from(self) -> bool:
        """Whether its training cases are known, and those of the run that it was started from."""
        before = self.started_from
        known = bool(self.cases.get("training"))
        return known and (before is None or bool(before.get("trained_on")))


def read_record(folder: Path) -> RunRecord:
    """The record of a run folder; empty if it is missing or damaged."""
    try:
        content = _read(folder)
    except (OSError, ValueError):
        return RunRecord()
    return RunRecord(content) if _is_record(content) else RunRecord()


def required_record(folder: Path) -> RunRecord:
    """The record of a run with checkpoints, which must be intact: only it records the cases.

    Raises:
        Mismatch: if it is damaged or missing.
    """
    path, remedy = folder / NAME, "Restore it, or start anew with --fresh"
    try:
        content = _read(folder)
    except OSError as error:
        cause = f"cannot be read ({error.strerror or error}), but records the cases of the run"
        raise Mismatch(path, cause, remedy) from error
    except ValueError as error:
        cause = f"is damaged ({error}), but records the cases of the run"
        raise Mismatch(path, cause, remedy) from error
    if not _is_record(content) or "cases" not in content:
        raise Mismatch(path, "does not record the cases of the run", remedy)
    return RunRecord(content)


def _read(folder: Path) -> Any:
    return json_files.read_json(folder / NAME, most_bytes=_MOST_BYTES)


def _is_record(content: Any) -> bool:
    """Whether the content has the form of a run record, as far as it is used."""
    if not isinstance(content, dict):
        return False
    names = ("cases", "recordings", "voxels", "grey_values")
    parts = [content.get(name, {}) for name in names]
    parts.append(content.get("started_from") or {})
    if not all(isinstance(part, dict) for part in parts):
        return False
    return all(isinstance(part, dict) for part in parts[0].values())
