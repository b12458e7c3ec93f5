"""The split: the cases for training, validation and test."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volumes.dataset.cases import Case
from volumes.errors import BadInput

_WHOLE_NAME = r"(.+)"


@dataclass(frozen=True)
class Split:
    """The rule that assigns cases to training, validation and test, by patient.

    All scans of a patient are on the same side.

    Attributes:
        validation, test: the number of patients, or the names of cases. Counted patients are taken
            in the order of the hash of their name, so the choice depends on the names alone and
            not on the order in which scans were collected. A name that no case has is a shell
            pattern: ("test_*",) selects the test pairs of a set.
        patient: regular expression. Its first group, searched in the name of a case, is the
            patient. By default it is the whole name; in BIDS, the subject. In a set of pairs every
            pair is its own patient.

    Example:
        >>> names = [f"case_{i:05d}" for i in range(6)]
        >>> cases = [Case(name, Path(name, "imaging.nii.gz")) for name in names]
        >>> sides = Split(validation=2, test=("case_00004",)).assign(Path("data"), cases)
        >>> {side: len(chosen) for side, chosen in sides.items()}
        {'training': 3, 'validation': 2, 'test': 1}
    """

    validation: int | tuple[str, ...] = 4
    test: int | tuple[str, ...] = 2
    patient: str = _WHOLE_NAME

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.patient).groups
        except re.error as error:
            raise ValueError(f"split.patient is not a regular expression: {error}") from error
        if groups < 1:
            raise ValueError(f"split.patient must have a group, not {self.patient!r}")
        for side, wanted in (("validation", self.validation), ("test", self.test)):
            if isinstance(wanted, int) and wanted < 0:
                raise ValueError(f"split.{side} must not be negative, not {wanted}")

    def assign(self, folder: Path, cases: Sequence[Case]) -> dict[str, list[Case]]:
        """The cases of "training", "validation" and "test", each sorted by name.

        Raises:
            BadInput: if a named case is missing, a patient is on two sides, or no case is left for
                training or validation.
        """
        patients: dict[str, list[Case]] = {}
        for case in cases:
            patients.setdefault(self._patient(folder, case), []).append(case)
        sides: dict[str, list[Case]] = {}
        free = sorted(patients, key=_hash)
        wishes = ("test", self.test), ("validation", self.validation)
        # Named cases first: a count must not take them.
        for side, wanted in sorted(wishes, key=lambda wish: isinstance(wish[1], int)):
            chosen = (
                free[:wanted] if isinstance(wanted, int) else self._named(folder, patients, wanted)
            )
            left, held = set(free), set(chosen)  # a set of pairs has thousands
            taken = [name for name in chosen if name not in left]
            if taken:
                cause = f"has patient {taken[0]} both in test and in validation"
                raise BadInput(folder, cause, "Name each patient's cases on one side only")
            free = [name for name in free if name not in held]
            sides[side] = sorted(case for name in chosen for case in patients[name])
        sides["training"] = sorted(case for name in free for case in patients[name])
        for side in ("training", "validation"):
            if not sides[side]:
                cause = f"has {len(patients)} patients, which leaves none for {side}"
                remedy = "Add cases, or set split.validation and split.test"
                raise BadInput(folder, cause, remedy)
        return {side: sides[side] for side in ("training", "validation", "test")}

    def _patient(self, folder: Path, case: Case) -> str:
        if case.of_a_set:
            return case.name
        if self.patient == _WHOLE_NAME and case.patient is not None:
            return case.patient
        match = re.search(self.patient, case.name)
        if not match or match[1] is None:
            cause = f"has the case {case.name}, in which split.patient finds no patient"
            raise BadInput(folder, cause, "Correct split.patient")
        return match[1]

    def _named(
        self, folder: Path, patients: dict[str, list[Case]], names: tuple[str, ...]
    ) -> list[str]:
        patient_of = {case.name: patient for patient, cases in patients.items() for case in cases}
        chosen: set[str] = set()
        for name in names:
            # A name with brackets is a pattern only if no case has this name.
            found = [name] if name in patient_of else fnmatch.filter(patient_of, name)
            if not found:
                remedy = "Set split.validation and split.test to numbers, or to cases that it holds"
                raise BadInput(folder, f"has no case {name}", remedy)
            chosen.update(patient_of[case] for case in found)
        return sorted(chosen)


def _hash(name: str) -> bytes:
    """The hash of a name. The name of a folder need not be UTF-8: its own bytes count."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()
