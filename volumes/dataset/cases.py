"""Cases: the scans, photographs or pairs of a dataset."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from volumes.dataset.folder_listing import is_photograph
from volumes.dataset.grey_values import AS_FOUND, GreyWanted, Scale
from volumes.dataset.layouts import PHOTOGRAPHS, Listener, look
from volumes.dataset.pairs import Pair, open_pair, open_pairs, refuse_other_grid
from volumes.dataset.photographs import Photograph, open_photograph, photograph_scale
from volumes.errors import BadInput, listed
from volumes.nifti import Scan, open_scan
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.volume import Odd

_PAIRS = re.compile(r"\.(h5|hdf5|npz)\Z", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Case:
    """One scan, photograph or pair of a dataset.

    Attributes:
        name: unique within the dataset.
        path: of its file; for a pair, of the whole set.
        noisy: the file of its noisy recording, if that is a separate scan.
        patient: where the layout of the folder tells it, as in BIDS.
        trust: options for reading its files.
        grey: how the values of a photograph or a pair are to be read.
    """

    name: str
    path: Path
    noisy: Path | None = None
    patient: str | None = field(default=None, compare=False)
    trust: ReadOptions = field(default=STRICT, compare=False)
    grey: GreyWanted = field(default=AS_FOUND, compare=False)

    @property
    def of_a_set(self) -> bool:
        """Whether it is one of a set of pairs, which also contains its noisy image."""
        return bool(_PAIRS.search(self.path.name))

    def open(self) -> Scan | Photograph | Pair:
        """The file, with the headers of the file and of its noisy recording checked.

        No voxel is read, except once those of a whole set of pairs, for their scale.

        Raises:
            BadInput: if a file cannot be used, the recording has another grid, or grey values do
                not fit the window.
        """
        if self.of_a_set:
            return open_pair(self.path, self.name, self.grey)
        if is_photograph(self.path):
            return open_photograph(self.path, self.grey)
        scan = open_scan(self.path, self.trust)
        if self.noisy is not None:
            refuse_other_grid(scan, open_scan(self.noisy, self.trust))
        return scan

    def scale(self) -> Scale | None:
        """The scale of the values of a photograph or a pair; None for a scan.

        Raises:
            BadInput: as `open`.
        """
        opened = self.open()
        return None if isinstance(opened, Scan) else opened.scale

    def oddities(self) -> Odd:
        """Warnings about the headers of its files.

        Raises:
            BadInput: as `open`.
        """
        if self.of_a_set:
            return {}  # a set has thousands of cases, and their images have no headers
        scans = [self.open(), *([open_scan(self.noisy, self.trust)] if self.noisy else [])]
        return {scan.path: scan.warnings for scan in scans if isinstance(scan, Scan)}


def find_cases(
    folder: Path, noisy: str | None = None, *, trust: ReadOptions = STRICT,
    grey: GreyWanted = AS_FOUND, listener: Listener | None = None,
) -> list[Case]:  # fmt: skip
    """The cases of a folder, or of a set of pairs, sorted by name.

    `volumes.dataset.layouts` holds the layouts of folders. Label maps are no cases.

    Args:
        folder: of scans, or an .h5, .hdf5 or .npz file that contains a set of pairs.
        noisy: name of the noisy recordings in the folders of the cases, such as "quarter" for
            `case_XXXXX/quarter.nii.gz` beside `imaging.nii.gz`. Sets of pairs do not need it.
        trust: options for reading the files.
        grey: how the values of photographs and pairs are to be read.
        listener: is told what was read as what, and what was not read.

    Raises:
        BadInput: if the folder does not exist, has no scan or is ambiguous, two cases have the same
            name, a case has no noisy recording, or grey values do not fit the window.
    """
    if _PAIRS.search(folder.name) and not folder.is_dir():
        names = open_pairs(folder, grey).names
        return sorted(Case(name, folder, trust=trust, grey=grey) for name in names)
    if not folder.is_dir():
        remedy = "Name a folder of scans with --data, or make one with `engine phantom`"
        raise BadInput(folder, "is not a folder", remedy)
    found = look(folder, noisy)
    if listener is not None:
        found.tell(listener)
    if found.layout is PHOTOGRAPHS:
        photograph_scale(folder, grey)  # refuses a window of HU once, not for every file
    patient = found.layout.patient_of
    cases = sorted(Case(name, path, None, patient(name), trust, grey) for name, path in found.scans)
    for one, other in pairwise(cases):
        if one.name == other.name:
            raise BadInput(other.path, f"is a second scan named {one.name}", "Rename one of them")
    return cases if noisy is None else _paired(folder, cases, noisy)


def _paired(folder: Path, cases: list[Case], noisy: str) -> list[Case]:
    beside = cases[0].path.name
    if Path(noisy).name != noisy or noisy.lower() in ("", "imaging"):
        cause = f"cannot have its noisy scans under the name {noisy!r}"
        raise BadInput(folder, cause, f"Name a file beside {beside}, without its .nii.gz")
    paired, missing = [], []
    wanted = [f"{noisy}{ending}".lower() for ending in (".nii.gz", ".nii")]
    for case in cases:
        there = [path for path in case.path.parent.iterdir() if path.name.lower() in wanted]
        if len(there) > 1:
            cause = f"is a second noisy scan of {case.name}"
            raise BadInput(max(there), cause, "Remove one of them")
        if there:
            paired.append(replace(case, noisy=there[0]))
        else:
            missing.append(case.name)
    if missing:
        which = listed(missing) if paired else "any case"
        cause = f"has no {noisy}.nii.gz beside {beside} in {which}"
        raise BadInput(folder, cause, "Add the missing scans, or choose another name")
    return paired
