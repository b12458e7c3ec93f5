"""Datasets: the cases of a folder, and their split into training, validation and test."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from volumes.dataset.pairs import Pair, open_pair, open_pairs, refuse_other_grid
from volumes.dataset.photographs import Photograph, open_photograph
from volumes.errors import BadInput
from volumes.nifti import Scan, open_scan
from volumes.nifti.read_options import STRICT, Trust
from volumes.storage import digest, json_files
from volumes.volume import Odd

_SCAN = re.compile(r"^(?P<name>.+)\.nii(\.gz)?$", re.IGNORECASE)
_HALF = re.compile(r"^(?P<name>.+)\.(hdr|img)(\.gz)?$", re.IGNORECASE)
_PHOTOGRAPH = re.compile(r"^(?P<name>.+)\.png$", re.IGNORECASE)
_PAIRS = re.compile(r"\.(h5|hdf5|npz)$", re.IGNORECASE)
# What the engine writes beside a scan, and the labels that data sets ship, are not scans.
_NOT_A_SCAN = re.compile(r"(_denoised|_residual|_labels?|_seg|^segmentation|^prediction)$", re.I)


@dataclass(frozen=True, order=True)
class Case:
    """One scan, photograph or pair of a dataset.

    Attributes:
        name: unique within the dataset.
        path: of its file, which for a pair is that of the whole set.
        noisy: the file of its noisy recording, where that is a scan of its own.
        trust: what is taken on trust of its files.
    """

    name: str
    path: Path
    noisy: Path | None = None
    trust: Trust = field(default=STRICT, compare=False)

    @property
    def of_a_set(self) -> bool:
        """Whether it is a pair of a set, which holds its noisy image, too."""
        return bool(_PAIRS.search(self.path.name))

    def open(self) -> Scan | Photograph | Pair:
        """The file with its header judged, and that of its noisy recording; no voxel is read.

        Raises:
            BadInput: where it cannot be used, or its noisy recording does not fit.
        """
        if self.of_a_set:
            return open_pair(self.path, self.name)
        if _PHOTOGRAPH.match(self.path.name):
            return open_photograph(self.path)
        scan = open_scan(self.path, self.trust)
        if self.noisy is not None:
            refuse_other_grid(scan, open_scan(self.noisy, self.trust))
        return scan

    def doubts(self) -> Odd:
        """What is odd about the headers of its files.

        Raises:
            BadInput: as `open` does.
        """
        if self.of_a_set:
            return {}  # it has thousands of cases, and none of them a header
        scans = [self.open(), *([open_scan(self.noisy, self.trust)] if self.noisy else [])]
        return {scan.path: scan.warnings for scan in scans if isinstance(scan, Scan)}


def case_name(path: Path) -> str:
    """The case a scan belongs to: its folder's name in KiTS19's layout, else its file's."""
    match = next((m for kind in (_SCAN, _PHOTOGRAPH, _HALF) if (m := kind.match(path.name))), None)
    stem = match["name"] if match else path.name
    # Links are not followed: stores of data link every scan into one folder of objects.
    return Path(os.path.abspath(path)).parent.name if stem.lower() == "imaging" else stem


def find_cases(folder: Path, noisy: str | None = None, *, trust: Trust = STRICT) -> list[Case]:
    """The cases of a folder, or of a file of pairs, in the order of their names.

    KiTS19's layout (`case_XXXXX/imaging.nii.gz`) is looked for first, then NIfTI files that lie
    flat in the folder, then PNG photographs: beside scans, PNG files are previews.

    Args:
        folder: of scans, or an .h5, .hdf5 or .npz file that holds a set of pairs.
        noisy: name of the noisy recordings: "quarter" where `case_XXXXX/quarter.nii.gz` lies beside
            the clean `imaging.nii.gz`, in KiTS19's layout. The pairs of a set have their noisy
            images with or without it.
        trust: what is taken on trust of the files.

    Raises:
        BadInput: where there is no folder, no scan in it, one name twice, or a case without its
            noisy recording.
    """
    if _PAIRS.search(folder.name) and not folder.is_dir():
        return sorted(Case(name, folder) for name in open_pairs(folder).names)
    if not folder.is_dir():
        remedy = "Name a folder of scans by --data, or make one with `engine phantom`"
        raise BadInput(folder, "is not a folder", remedy)
    files = sorted(path for place in _folders(folder) for path in _imaging(place))
    if noisy is not None and not files:
        cause = f"holds no case_*/imaging.nii.gz, beside which {noisy}.nii.gz could lie"
        raise BadInput(folder, cause, "Lay the scans out in one folder a case")
    if not files:
        files = sorted(path for path in folder.iterdir() if _is_data(path, _SCAN))
    if not files:
        files = sorted(path for path in folder.iterdir() if _is_data(path, _PHOTOGRAPH))
    if not files:
        cause = "holds neither case_*/imaging.nii.gz nor NIfTI files nor PNG photographs"
        raise BadInput(folder, cause, "Name the folder that does by --data")
    cases = sorted(Case(case_name(path), path, trust=trust) for path in files)
    for one, other in pairwise(cases):
        if one.name == other.name:
            raise BadInput(other.path, f"is a second scan named {one.name}", "Rename one of them")
    return cases if noisy is None else _paired(folder, cases, noisy)


def unused(folder: Path) -> list[Path]:
    """What lies in a folder of cases in KiTS19's layout and is none: other folders, flat scans.

    Run folders, and folders of them, may lie there, too.
    """
    if not folder.is_dir():
        return []
    places = _folders(folder)
    others = [place for place in places if not _imaging(place)]
    if len(others) == len(places):  # another layout
        return []
    others = [place for place in others if not _of_runs(place)]
    return sorted([*others, *(path for path in folder.iterdir() if _is_data(path, _SCAN))])


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and path.name[:1] != "."]


def _imaging(place: Path) -> list[Path]:
    """The clean scans of one case.

    Raises:
        BadInput: where the system does not let them be seen: a case must not go without a word.
    """
    try:
        names = os.listdir(place)
    except OSError as error:
        cause = f"cannot be read: {error.strerror or error}"
        raise BadInput(place, cause, "Check your rights, or take it away") from error
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
        which = ", ".join(missing) if paired else "any case"
        cause = f"has no {noisy}.nii.gz beside imaging.nii.gz in {which}"
        raise BadInput(folder, cause, "Add what is missing, or name what is there")
    return paired


def _is_made_by_the_engine(path: Path, name: str) -> bool:
    """Whether a sidecar says so: neither noisy copies nor estimates are scans to learn from."""
    try:
        content = json_files.read(path.with_name(f"{name}.json"))
        if not isinstance(content, dict):
            return False
        if "output_sha256" in content:  # of an estimate, which another scan may have replaced
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
