"""Folder listing: the files below a folder that are scans by their name, and those that are not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from volumes.errors import BadInput, Refusal
from volumes.nifti import open_scan
from volumes.storage import digest, json_files

_ANY = re.IGNORECASE | re.DOTALL  # a name may hold a line break
_SCAN = re.compile(r"(?P<name>.+)\.nii(\.gz)?\Z", _ANY)
_HALF = re.compile(r"(?P<name>.+)\.(hdr|img)(\.gz)?\Z", _ANY)
_SLICE = re.compile(r"(?P<name>.+)\.dcm\Z", _ANY)
_PHOTOGRAPH = re.compile(r"(?P<name>.+)\.png\Z", _ANY)
# Files that the engine writes beside a scan, and estimates of other programs, are not scans.
_MADE = re.compile(r"(_denoised|_residual|^prediction)$", re.IGNORECASE)
_LABELS = re.compile(
    r"(^|[-_. ])\d*(d?seg|segm|segmentations?|labels?|label_?maps?|masks?|msk|gt|ground[-_ ]?truth"
    r"|annotations?|rois?|contours?)([-_ ]?\d+)?$"
    r"|^segmentations?[-_. ]|^(segmentation|label|mask|seg|gt)s?[-_ ]?\d",
    re.IGNORECASE,
)
_FOLDER_OF_LABELS = re.compile(
    r"^(labels?|segs?|segmentations?|masks?|annotations?|instances|rois?"
    r"|derivatives)(Tr|Ts|Va)?$|[-_ ](labels|segmentations?|masks?|annotations)$",
    re.IGNORECASE,
)
_CLEAN = "imaging"  # the name of the clean scan in KiTS19's layout, wherever it lies
_NAMES_NO_CASE = (_CLEAN, "ct")


@dataclass(frozen=True)
class Listing:
    """The files below a folder, as sorted paths with `/` between their parts.

    Attributes:
        folder: the folder.
        scans: NIfTI files that are scans by their name.
        labels: NIfTI files that are label maps by their name or by that of their folder.
        photographs: PNG files in the folder itself.
        folders: the folders in it, without those of runs.
        outputs: NIfTI files that are outputs of the engine by their name.
    """

    folder: Path
    scans: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    photographs: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, depth: int) -> Listing:
        """Lists a folder. Hidden files and folders of runs are left out.

        Args:
            folder: the folder.
            depth: the largest number of parts of a path.

        Raises:
            BadInput: if a folder cannot be listed. A case must not be skipped silently.
        """
        listing = cls(folder)
        listing._add("", depth, labels=False)
        return listing

    def _add(self, place: str, depth: int, *, labels: bool) -> None:
        for name in _visible(self.folder / place):
            path = place + name
            # Hundreds of label maps lie beside a scan: none is looked at more closely.
            if not (labels and _SCAN.match(name)) and os.path.isdir(self.folder / path):
                if depth > 1 and not labels and not _of_runs(self.folder / path):
                    self.folders.extend([] if place else [path])
                    self._add(f"{path}/", depth - 1, labels=is_folder_of_labels(name))
            elif (match := _SCAN.match(name)) is not None:
                self._file(path, match["name"], labels=labels)
            elif not place and _PHOTOGRAPH.match(name) and not _LABELS.search(Path(name).stem):
                self.photographs.append(path)

    def _file(self, path: str, stem: str, *, labels: bool) -> None:
        if stem.lower() == _CLEAN:
            self.scans.append(path)
        elif labels or _LABELS.search(stem):
            self.labels.append(path)
        elif _MADE.search(stem):
            self.outputs.append(path)
        else:
            self.scans.append(path)

    def within(self, name: str) -> Listing:
        """The listing of one of its folders."""
        start = f"{name}/"
        scans, labels, outputs = (
            [path[len(start) :] for path in paths if path.startswith(start)]
            for paths in (self.scans, self.labels, self.outputs)
        )
        folders = {path.partition("/")[0] for path in scans if "/" in path}
        return Listing(self.folder / name, scans, labels, folders=sorted(folders), outputs=outputs)

    def not_made(self, paths: Iterable[str]) -> list[str]:
        """Those files that no sidecar describes as a noisy copy or an estimate of the engine."""
        return [path for path in paths if not _is_made_by_the_engine(self.folder / path)]

    def all_outputs(self, but: Iterable[str] = ()) -> list[str]:
        """The outputs of the engine by their name or their sidecar, without the cases."""
        others = set(self.scans) - set(but)
        return sorted([*self.outputs, *(others - set(self.not_made(others)))])

    def eight_bit(self, paths: Iterable[str]) -> list[str]:
        """Those files whose header declares unscaled values of 8 bits, which cannot hold HU."""
        return [path for path in paths if _is_eight_bit(self.folder / path)]


def stem(path: str) -> str:
    """A path without the ending of a scan or a photograph."""
    match = _SCAN.match(path) or _PHOTOGRAPH.match(path)
    return match["name"] if match else path


def case_name(path: Path) -> str:
    """The name of a scan's case: of its folder if it is named imaging or ct, else of its file.

    Example:
        >>> case_name(Path("kits19/case_00001/imaging.nii.gz")), case_name(Path("flat/a.nii"))
        ('case_00001', 'a')
    """
    match = next(
        (m for kind in (_SCAN, _PHOTOGRAPH, _HALF, _SLICE) if (m := kind.match(path.name))), None
    )
    name = match["name"] if match else path.name
    # Links are not followed: data stores link every scan into one folder of objects.
    return Path(os.path.abspath(path)).parent.name if name.lower() in _NAMES_NO_CASE else name


def is_photograph(path: Path) -> bool:
    """Whether a file is a photograph by its name."""
    return bool(_PHOTOGRAPH.match(path.name))


def is_folder_of_labels(name: str) -> bool:
    """Whether a folder holds label maps by its name."""
    return bool(_FOLDER_OF_LABELS.search(name))


def _visible(place: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(place) if name[:1] != ".")
    except OSError as error:
        cause = f"cannot be read: {error.strerror or error}"
        raise BadInput(place, cause, "Check your permissions, or remove it") from error


def _of_runs(place: Path) -> bool:
    return any(next(place.glob(pattern), None) for pattern in ("recipe.json", "*/recipe.json"))


def _is_made_by_the_engine(path: Path) -> bool:
    """Whether a sidecar describes the file as a noisy copy or an estimate: not a training scan."""
    try:
        content = json_files.read_json(path.with_name(f"{stem(path.name)}.json"))
        if not isinstance(content, dict):
            return False
        if "output_sha256" in content:  # an estimate; another scan may have replaced it
            return bool(digest.sha256(path) == content["output_sha256"])
    except (OSError, ValueError):
        return False
    return "degradation" in content or "change_hu" in content


def _is_eight_bit(path: Path) -> bool:
    try:
        scan = open_scan(path)
    except Refusal:  # a bad header is refused where the scan is used
        return False
    return scan.dtype.itemsize == 1 and (scan.slope, scan.inter) == (1.0, 0.0)
