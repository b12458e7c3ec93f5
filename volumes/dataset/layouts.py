"""Layouts: how public collections lay out their scans in folders.

KiTS19's layout and flat files are tried first, then the first layout of `TABLE` that covers every
folder with scans. If none does, every folder may hold one scan of any name, or one folder may hold
the data set. What is left is ambiguous and refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from volumes.dataset.folder_listing import Listing, case_name, is_folder_of_labels, stem
from volumes.dicom.folder import refuse_below
from volumes.errors import BadInput

_CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>\d{4})", re.DOTALL)
_OF_IMAGES = re.compile(r"images?(Tr|Ts|Va)?", re.IGNORECASE)
_NEAR, _DEEP = 2, 6  # parts of a path: in KiTS19's layout, and where scans are searched
_LISTED = 3


@dataclass(frozen=True)
class Layout:
    """One way to lay out the scans of a data set.

    Attributes:
        name: for messages.
        scan: matches the whole path of a scan below the folder, with `/` between its parts and
            without its ending. The group `name` is the name of its case.
        own_folders: whether every case has a folder of its own, in which its recordings lie.
        channels: whether names may end in the number of a channel, as in nnU-Net: `_0000`.
        patient: the start of a name that is the patient, where one may have several scans.
    """

    name: str
    scan: str
    own_folders: bool = False
    channels: bool = False
    patient: str | None = None

    def names(self, folder: Path, paths: Iterable[str]) -> dict[str, str]:
        """The name of the case of each path that is a scan of this layout.

        Raises:
            BadInput: if the cases have several channels.
        """
        matches = {path: re.fullmatch(self.scan, stem(path), re.I | re.S) for path in paths}
        names = {path: match["name"] for path, match in matches.items() if match}
        return _without_channel(folder, names) if self.channels else names

    def patient_of(self, name: str) -> str | None:
        """The patient of a case, where the layout tells it."""
        match = re.match(self.patient, name) if self.patient else None
        return match[0] if match else None


class Listener(Protocol):
    """Who is told what was read: a terminal."""

    def say(self, text: str) -> None:
        """Takes a message."""

    def warn(self, text: str) -> None:
        """Takes a warning."""


KITS19 = Layout("KiTS19", r"(?P<name>[^/]+)/imaging", own_folders=True)
FLAT = Layout("NIfTI files", r"(?P<name>[^/]+)")
_FLAT_IMAGES = replace(FLAT, channels=True)
PHOTOGRAPHS = Layout("photographs", r"(?P<name>[^/]+)")
ONE_A_FOLDER = Layout("one scan a folder", r"(?P<name>[^/]+)/.+", own_folders=True)
_FIRST = (KITS19, FLAT, _FLAT_IMAGES)  # whatever lies beside their scans
TABLE = (
    Layout("TotalSegmentator", r"(?P<name>[^/]+)/ct", own_folders=True),
    Layout("full and reduced dose", r"(?P<name>[^/]+)/full([-_ ]?dose)?", own_folders=True),
    Layout("MSD or nnU-Net", r"imagesTr/(?P<name>[^/]+)", channels=True),
    Layout("images beside labels", r"images?/(?P<name>[^/]+)", channels=True),
    Layout(
        "BIDS",
        r"(rawdata/)?sub-[^/]+/(ses-[^/]+/)?((ct|anat)/)?(?P<name>sub-[^/]+)_ct",
        patient="sub-[^_]+",
    ),
    Layout("LiTS", r"[^/]+/(?P<name>volume-\d+)"),
)


@dataclass(frozen=True)
class Contents:
    """What a folder of scans holds.

    Attributes:
        folder: the folder.
        layout: in which its scans lie.
        scans: the name of the case and the path of each scan, sorted.
        place: the one folder below it that holds them, such as "imagesTr/", or "".
        labels: label maps, by their name or their header.
        others: folders and scans that are not part of the layout.
        outputs: files that the engine made of scans.
    """

    folder: Path
    layout: Layout
    scans: Sequence[tuple[str, Path]]
    place: str = ""
    labels: Sequence[Path] = ()
    others: Sequence[Path] = ()
    outputs: Sequence[Path] = ()

    def describe(self) -> str:
        """What was read as what, in one line."""
        what = "photograph" if self.layout is PHOTOGRAPHS else "volume"
        text = f"{self.folder}: read as {self.layout.name}, {_counted(len(self.scans), what)}"
        text += f" of {self.place}" if self.place else ""
        if not self.labels:
            return text
        are = "is no case" if len(self.labels) == 1 else "are no cases"
        return f"{text}; {_counted(len(self.labels), 'label map')} {are}"

    def tell(self, listener: Listener) -> None:
        """Says what was read as what where it had to be recognised, and warns of what was not."""
        plain = self.layout in (KITS19, FLAT, _FLAT_IMAGES, PHOTOGRAPHS) and not self.place
        if not plain or (self.layout is not KITS19 and self.labels):
            listener.say(self.describe())
        if self.others:
            names = ", ".join(path.name for path in self.others[:_LISTED])
            count = len(self.others)
            are = f"{count:,} entries that are no cases are" if count > 1 else "1 entry is"
            listener.warn(f"{self.folder}: {are} ignored: {names}")


def look(folder: Path, noisy: str | None = None) -> Contents:
    """Finds the layout of a folder, and its scans.

    Headers are read only where label maps of 8 bits may lie among the scans.

    Args:
        folder: the folder.
        noisy: name of the noisy recordings, which lie in the folder of their case.

    Raises:
        BadInput: if the folder cannot be listed, holds no scan, or holds scans of which it is not
            clear which are the cases.
    """
    near = Listing.of(folder, _NEAR)
    if found := _in_table(near, noisy, _FIRST):
        return found
    outputs = near.all_outputs()
    beside = any("/" not in path for path in outputs)  # then PNG files are previews of them
    if noisy is None and not beside and (pictures := near.not_made(near.photographs)):
        scans = [(case_name(folder / path), folder / path) for path in pictures]
        return Contents(folder, PHOTOGRAPHS, sorted(scans))
    deep = Listing.of(folder, _DEEP)
    if found := _in_table(deep, noisy, TABLE) or _one_a_folder(deep, noisy) or _inside(deep, noisy):
        return found
    if noisy is not None:
        cause = f"holds no case_*/imaging.nii.gz, beside which {noisy}.nii.gz could lie"
        raise BadInput(folder, cause, "Put each case into a folder of its own")
    refuse_below(folder)
    cause = "holds neither case_*/imaging.nii.gz nor NIfTI files nor PNG photographs"
    if outputs:
        count = _counted(len(outputs), "output")
        cause = f"holds no scan, only {count} of this program such as {outputs[0]}"
    elif deep.labels:
        cause = f"holds neither scans nor photographs, only label maps such as {deep.labels[0]}"
    raise BadInput(folder, cause, "Name another folder with --data")


def holds_files(folder: Path) -> bool:
    """Whether a folder holds scans, label maps, photographs or outputs, whatever its layout.

    Raises:
        BadInput: if the folder cannot be listed.
    """
    listing = Listing.of(folder, _DEEP)
    return bool(listing.scans or listing.labels or listing.photographs or listing.outputs)


def _in_table(listing: Listing, noisy: str | None, table: Iterable[Layout]) -> Contents | None:
    """The contents by the first layout of a table that fits."""
    images = _OF_IMAGES.fullmatch(listing.folder.absolute().name)
    for layout in table:
        if layout is (FLAT if images else _FLAT_IMAGES):
            continue
        if noisy is not None and not layout.own_folders:
            continue
        names = layout.names(listing.folder, listing.scans)
        # `degrade` writes clean references with a sidecar in KiTS19's layout.
        usable = list(names) if layout is KITS19 else listing.not_made(names)
        labels = [] if layout.own_folders else _labels_among(listing, usable)
        names = {path: names[path] for path in usable if path not in labels}
        if names and (layout in _FIRST or _covers(layout, listing, names)):
            return _contents(listing, layout, names, labels)
    return None


def _covers(layout: Layout, listing: Listing, names: Iterable[str]) -> bool:
    """Whether no other folder holds scans, except those of images for test and validation."""
    left = _by_folder(listing).keys() - {_top(path) for path in names}
    return all(layout.channels and _OF_IMAGES.fullmatch(name) for name in left)


def _one_a_folder(listing: Listing, noisy: str | None) -> Contents | None:
    """The contents if every folder holds one scan, of any name and at any depth."""
    names: dict[str, str] = {}
    labels: list[str] = []
    for top, paths in _by_folder(listing).items():
        usable = [path for path in listing.not_made(paths) if not _is_named(path, noisy)]
        more = _labels_among(listing, usable) if len(usable) > 1 else []
        labels += more
        usable = [path for path in usable if path not in more]
        if len(usable) > 1:
            return None
        names |= dict.fromkeys(usable, top)
    return _contents(listing, ONE_A_FOLDER, names, labels) if names else None


def _inside(listing: Listing, noisy: str | None) -> Contents | None:
    """The contents of the one folder that holds a data set.

    Raises:
        BadInput: if several folders hold scans.
    """
    folders = _by_folder(listing)
    if len(folders) > 1:
        top, paths = max(folders.items(), key=lambda item: len(item[1]))
        shown = ", ".join(path.partition("/")[2] for path in paths[:_LISTED])
        shown += ", ..." if len(paths) > _LISTED else ""
        cause = (
            f"holds scans in {len(folders)} folders, and several of them in {top}/ ({shown}): "
            "which are the cases is not clear"
        )
        remedy = f"Name one folder, such as --data {listing.folder / top}, or name the scan of "
        raise BadInput(listing.folder, cause, f"{remedy}each case imaging.nii.gz")
    for top in folders:
        inner = listing.within(top)
        found = _in_table(inner, noisy, (*_FIRST, *TABLE))
        if found := found or _one_a_folder(inner, noisy) or _inside(inner, noisy):
            return replace(found, folder=listing.folder, place=f"{top}/{found.place}")
    return None


def _contents(
    listing: Listing, layout: Layout, names: Mapping[str, str], labels: Iterable[str]
) -> Contents:
    folder, tops = listing.folder, {_top(path) for path in names}
    scans = sorted((_own(folder / path, name), folder / path) for path, name in names.items())
    one = not layout.own_folders and len(tops) == 1 and "/" in min(names)
    known = [folder / path for path in (*listing.labels, *labels)]
    others = [folder / name for name in _others(listing, layout, tops) if name not in labels]
    place = f"{min(tops)}/" if one else ""
    outputs = [folder / path for path in listing.all_outputs(names)]
    return Contents(folder, layout, scans, place, known, others, outputs)


def _others(listing: Listing, layout: Layout, tops: set[str]) -> list[str]:
    """Names in the folder that are not part of a layout."""
    flat = listing.not_made(path for path in listing.scans if "/" not in path)
    # Where every case has a folder, one without a scan is a case that lacks it.
    folders = listing.folders if layout.own_folders else _by_folder(listing)
    others = {*flat, *(name for name in folders if not is_folder_of_labels(name))}
    return sorted(others - tops)


def _labels_among(listing: Listing, paths: Sequence[str]) -> list[str]:
    """Label maps by their header, unless all are of 8 bits: their voxels are then judged."""
    labels = listing.eight_bit(paths) if len(paths) > 1 else []
    return labels if len(labels) < len(paths) else []


def _without_channel(folder: Path, names: Mapping[str, str]) -> dict[str, str]:
    """The names without `_0000` where that is a channel, as in nnU-Net, and no number of a case.

    Raises:
        BadInput: if the cases have several channels.
    """
    channels: dict[str, list[str]] = {}
    for name in names.values():
        if match := _CHANNEL.fullmatch(name):
            channels.setdefault(match["name"], []).append(match["channel"])
    sets = [found for found in channels.values() if "0000" in found and len(found) > 1]
    if len(sets) > 1 and all(sorted(found) == sorted(sets[0]) for found in sets):
        cause = f"holds {len(sets[0])} channels of each case (_0000, _0001, ...)"
        raise BadInput(folder, cause, "Name a folder that holds one of them")
    only = {f"{name}_0000": name for name, found in channels.items() if found == ["0000"]}
    return {path: only.get(name, name) for path, name in names.items()}


def _by_folder(listing: Listing) -> dict[str, list[str]]:
    """The scans of each folder in it."""
    found: dict[str, list[str]] = {}
    for path in listing.scans:
        if "/" in path:
            found.setdefault(_top(path), []).append(path)
    return found


def _top(path: str) -> str:
    return path.partition("/")[0]


def _is_named(path: str, name: str | None) -> bool:
    return name is not None and stem(path).rpartition("/")[2].lower() == name.lower()


def _own(path: Path, name: str) -> str:
    """The name of a case, or of its folder if its file is named imaging or ct."""
    return case_name(path) if name == stem(path.name) else name


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
