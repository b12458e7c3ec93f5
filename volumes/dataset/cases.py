"""Cases: the scans, photographs or pairs of a dataset."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from volumes.dataset.grey_values import AS_FOUND, GreyWanted, Scale
from volumes.dataset.pairs import Pair, open_pair, open_pairs, refuse_other_grid
from volumes.dataset.photographs import Photograph, open_photograph, photograph_scale
from volumes.errors import BadInput, listed
from volumes.nifti import Scan, open_scan
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.storage import digest, json_files
from volumes.volume import Odd

_SCAN = re.compile(r"^(?P<name>.+)\.nii(\.gz)?$", re.IGNORECASE)
_HALF = re.compile(r"^(?P<name>.+)\.(hdr|img)(\.gz)?$", re.IGNORECASE)
_PHOTOGRAPH = re.compile(r"^(?P<name>.+)\.png$", re.IGNORECASE)
_PAIRS = re.compile(r"\.(h5|hdf5|npz)$", re.IGNORECASE)
# Files that the engine writes beside a scan, and the label maps of datasets, are not scans.
_NOT_A_SCAN = re.compile(r"(_denoised|_residual|_labels?|_seg|^segmentation|^prediction)$", re.I)


@dataclass(frozen=True, order=True)
class Case:
    """One scan, photograph or pair of a dataset.

    Attributes:
        name: unique within the dataset.
        path: of its file; for a pair, of the whole set.
        noisy: the file of its noisy recording, if that is a separate scan.
        trust: options for reading its files.
        grey: how the values of a photograph or a pair are to be read.
    """

    name: str
    path: Path
    noisy: Path | None = None
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
        if _PHOTOGRAPH.match(self.path.name):
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


def case_name(path: Path) -> str:
    """The name of a scan's case: of its folder in the KiTS19 layout, else of its file.

    Example:
        >>> case_name(Path("kits19/case_00001/imaging.nii.gz")), case_name(Path("flat/a.nii"))
        ('case_00001', 'a')
    """
    match = next((m for kind in (_SCAN, _PHOTOGRAPH, _HALF) if (m := kind.match(path.name))), None)
    stem = match["name"] if match else path.name
    # Links are not followed: data stores link every scan into one folder of objects.
    return Path(os.path.abspath(path)).parent.name if stem.lower() == "imaging" else stem


def find_cases(
    folder: Path, noisy: str | None = None, *, trust: ReadOptions = STRICT,
    grey: GreyWanted = AS_FOUND,
) -> list[Case]:  # fmt: skip
    """The cases of a folder, or of a set of pairs, sorted by name.

    The first layout with files is used: KiTS19 (`case_XXXXX/imaging.nii.gz`), NIfTI files in the
    folder itself, PNG photographs. PNG files beside scans are previews.

    Args:
        folder: of scans, or an .h5, .hdf5 or .npz file that contains a set of pairs.
        noisy: name of the noisy recordings in the KiTS19 layout, such as "quarter" for
            `case_XXXXX/quarter.nii.gz` beside `imaging.nii.gz`. Sets of pairs do not need it.
        trust: options for reading the files.
        grey: how the values of photographs and pairs are to be read.

    Raises:
        BadInput: if the folder does not exist or has no scan, two cases have the same name, or a
            case has no noisy recording, or grey values do not fit the window.
    """
    if _PAIRS.search(folder.name) and not folder.is_dir():
        names = open_pairs(folder, grey).names
        return sorted(Case(name, folder, trust=trust, grey=grey) for name in names)
    if not folder.is_dir():
        remedy = "Name a folder of scans with --data, or make one with `engine phantom`"
        raise BadInput(folder, "is not a folder", remedy)
    files = sorted(path for place in _folders(folder) for path in _imaging(place))
    if noisy is not None and not files:
        cause = f"holds no case_*/imaging.nii.gz, beside which {noisy}.nii.gz could lie"
        raise BadInput(folder, cause, "Put each case into a folder of its own")
    if not files:
        files = sorted(path for path in folder.iterdir() if _is_data(path, _SCAN))
    if not files:
        files = sorted(path for path in folder.iterdir() if _is_data(path, _PHOTOGRAPH))
        if files:
            photograph_scale(folder, grey)  # refuses a window of HU once, not for every file
    if not files:
        cause = "holds neither case_*/imaging.nii.gz nor NIfTI files nor PNG photographs"
        raise BadInput(folder, cause, "Name another folder with --data")
    cases = sorted(Case(case_name(path), path, trust=trust, grey=grey) for path in files)
    for one, other in pairwise(cases):
        if one.name == other.name:
            raise BadInput(other.path, f"is a second scan named {one.name}", "Rename one of them")
    return cases if noisy is None else _paired(folder, cases, noisy)


def unused(folder: Path) -> list[Path]:
    """The folders and flat scans in a folder of KiTS19's layout that are not cases.

    Run folders, and folders of runs, are not listed.
    """
    if not folder.is_dir():
        return []
    places = _folders(folder)
    others = [place for place in places if not _imaging(place)]
    if len(others) == len(places):  # not the KiTS19 layout
        return []
    others = [place for place in others if not _of_runs(place)]
    return sorted([*others, *(path for path in folder.iterdir() if _is_data(path, _SCAN))])


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and path.name[:1] != "."]


def _imaging(place: Path) -> list[Path]:
    """The clean scans of one case.

    Raises:
        BadInput: if the folder cannot be listed. A case must not be skipped silently.
    """
    try:
        names = os.listdir(place)
    except OSError as error:
        cause = f"cannot be read: {error.strerror or error}"
        raise BadInput(place, cause, "Check your permissions, or remove it") from error
    return [place / name for name in ("imaging.nii.gz", "imaging.nii") if name in names]


def _of_runs(place: Path) -> bool:
    return any(next(place.glob(pattern), None) for pattern in ("recipe.json", "*/recipe.json"))


def _paired(folder: Path, cases: list[Case], noisy: str) -> list[Case]:
    if Path(noisy).name != noisy or noisy.lower() in ("", "imaging"):
        cause = f"cannot have its noisy scans under the name {noisy!r}"
        raise BadInput(folder, cause, "Name a file beside imaging.nii.gz, without its .nii.gz")
    paired, missing = [], []
    for case in cases:
        paths = [case.path.with_name(noisy + ending) for ending in (".nii.gz", ".nii")]
        there = [path for path in paths if path.exists()]
        if len(there) > 1:
            cause = f"is a second noisy scan of {case.name}"
            raise BadInput(there[1], cause, "Remove one of them")
        if there:
            paired.append(replace(case, noisy=there[0]))
        else:
            missing.append(case.name)
    if missing:
        which = listed(missing) if paired else "any case"
        cause = f"has no {noisy}.nii.gz beside imaging.nii.gz in {which}"
        raise BadInput(folder, cause, "Add the missing scans, or choose another name")
    return paired


def _is_made_by_the_engine(path: Path, name: str) -> bool:
    """Whether a sidecar describes the file as a noisy copy or an estimate: not a training scan."""
    try:
        content = json_files.read_json(path.with_name(f"{name}.json"))
        if not isinstance(content, dict):
            return False
        if "output_sha256" in content:  # an estimate; another scan may have replaced it
            return bool(digest.sha256(path) == content["output_sha256"])
    except (OSError, ValueError):
        return False
    return "degradation" in content or "change_hu" in content


def _is_data(path: Path, kind: re.Pattern[str]) -> bool:
    match = kind.match(path.name)
    if not match or path.name.startswith("."):
        return False
    if _NOT_A_SCAN.search(match["name"]):
        return False
    return not _is_made_by_the_engine(path, match["name"])
